"""Histories that once showed a fault of the server are lived again."""

from __future__ import annotations

import pytest

from tests.simulation.oracles import violations
from tests.simulation.scenario import Mode, drawn
from tests.simulation.worlds import lived

FOUND = {
    # Its pass died between the save that handed the instance over and the command to close it.
    "a kept instance was never closed": (475, Mode.SAFETY),
    # A server slept for 30 s within its question: the instance went while it did.
    "an instance was called gone when it was asked for": (1773, Mode.LIVENESS),
}


@pytest.mark.parametrize(("seed", "mode"), FOUND.values(), ids=FOUND.keys())
def test_it_does_not_come_back(seed: int, mode: Mode) -> None:
    assert violations(lived(drawn(seed, mode))) == []
