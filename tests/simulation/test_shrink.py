"""A failing history is cut down to the faults that it takes, whatever else was on."""

from __future__ import annotations

import pytest

from tests.simulation.ended import Ended
from tests.simulation.fates import FAULTS
from tests.simulation.record import Record
from tests.simulation.scenario import Scenario, drawn
from tests.simulation.shrink import SWITCHES, shrunk

TABLES = ("runs", "instances", "states", "kept", "seen_runs", "seen_kept", "seen_instances")
INJECTED = 12
NEEDED = 3  # faults until it fails
CULPRITS = {"cloud.delete", FAULTS[-1].value}


def lived_badly(scenario: Scenario) -> Ended:
    """Live a history that fails if two switches are on and three faults have struck."""
    injected = int(min(scenario.most, INJECTED))
    fails = not CULPRITS & set(scenario.off) and injected >= NEEDED
    return Ended(
        scenario=scenario,
        record=Record(),
        rows={name: [] for name in TABLES},
        ended_at=100.0,
        injected=injected,
        faults=(RuntimeError("broken"),) if fails else (),
    )


def test_only_what_it_takes_is_left() -> None:
    scenario, found = shrunk(drawn(7), lived_badly)
    assert set(scenario.off) == set(SWITCHES) - CULPRITS
    assert scenario.most == NEEDED
    assert [one.invariant for one in found] == ["I0"]


def test_a_history_that_holds_is_not_shrunk() -> None:
    with pytest.raises(ValueError, match="nothing is violated"):
        shrunk(drawn(7, off=tuple(CULPRITS)), lived_badly)
