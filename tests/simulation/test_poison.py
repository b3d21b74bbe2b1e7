"""A run whose handling raises is taken out of the loop, and ends once it can be read again."""

from __future__ import annotations

import pytest

from tests.simulation.marks import marks
from tests.simulation.oracles import runs, violations
from tests.simulation.scenario import plain
from tests.simulation.worlds import lived
from webhook_server.runs.model import Outcome, State

HEALS_AT = 180.0  # a run is parked after five passes that raised: half a minute


@pytest.mark.parametrize("poison_at", [20.0, 30.0])
def test_it_is_parked_and_nothing_leaks(poison_at: float) -> None:
    ended = lived(plain(poison_at=poison_at, heals_at=HEALS_AT, works_s=(60.0,)))
    assert violations(ended) == []
    assert "parked" in marks(ended)
    (run,) = runs(ended).values()
    assert (run.state, run.outcome) == (State.FINISHED, Outcome.INFRASTRUCTURE)


def test_it_ends_though_what_raises_does_so_for_ever() -> None:
    never = 5000.0  # less would mend it before its end
    ended = lived(plain(poison_at=20.0, heals_at=never, works_s=(60.0,)))
    assert violations(ended) == []
    assert ended.is_over
    assert ended.ended_at < never
