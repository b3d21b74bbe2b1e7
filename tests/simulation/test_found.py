"""Histories that once showed a fault of the server are lived again."""

from __future__ import annotations

import pytest

from tests.simulation.oracles import violations
from tests.simulation.scenario import Mode, drawn
from tests.simulation.worlds import WORLDS, lived

FOUND = {
    # Its pass died between the save that handed the instance over and the command to close it.
    "a kept instance was never closed": (475, Mode.SAFETY),
    # A server slept for 30 s within its question: the instance went while it did.
    "an instance was called gone when it was asked for": (1773, Mode.LIVENESS),
}
WITH_GITHUB = {
    # The database took neither what became of a release nor that it had failed: a thread died.
    "a release could not even be put off": 274,
    # One replica noted a create, another tried it without an answer; the first took it for untried.
    "a check run was made twice": 260,
    "a comment was made twice": 247,
}


@pytest.mark.parametrize("seed", WITH_GITHUB.values(), ids=WITH_GITHUB.keys())
def test_it_does_not_come_back_with_github(seed: int) -> None:
    world = WORLDS["github"]
    assert world.live(world.draw(seed, Mode.LIVENESS, ())).violations == []


@pytest.mark.parametrize(("seed", "mode"), FOUND.values(), ids=FOUND.keys())
def test_it_does_not_come_back(seed: int, mode: Mode) -> None:
    assert violations(lived(drawn(seed, mode))) == []
