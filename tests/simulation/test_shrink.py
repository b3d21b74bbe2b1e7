"""A failing history is cut down to the faults that it takes, whatever else was on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.ended import Ended
from tests.simulation.fates import FAULTS
from tests.simulation.oracles import Violation
from tests.simulation.record import Record
from tests.simulation.scenario import Mode, Scenario
from tests.simulation.shrink import shrunk
from tests.simulation.worlds import ENGINE, GITHUB, Lived, World

INJECTED = 12
NEEDED = 3  # faults until it fails
CULPRITS = {"cloud.delete", FAULTS[-1].value}
BROKEN = Violation(invariant="I0", text="broken")


def bad(world: World[Any]) -> World[Any]:
    """Return a world that fails if two switches are on and three faults have struck."""

    def lived_badly(scenario: Any) -> Lived:
        below: Scenario = world.below(scenario)
        injected = int(min(below.most, INJECTED))
        fails = not CULPRITS & set(below.off) and injected >= NEEDED
        ended = Ended(scenario=below, record=Record(), rows={}, ended_at=100.0, injected=injected)
        return Lived(ended=ended, violations=[BROKEN] if fails else [], marks=frozenset())

    return replace(world, live=lived_badly)


@pytest.mark.parametrize("world", [ENGINE, GITHUB], ids=lambda world: world.name)
def test_only_what_it_takes_is_left(world: World[Any]) -> None:
    scenario, found = shrunk(bad(world), world.draw(7, Mode.LIVENESS, ()))
    below = world.below(scenario)
    assert set(below.off) == set(world.switches) - CULPRITS
    assert below.most == NEEDED
    assert found == [BROKEN]


def test_of_two_stories_one_is_left() -> None:
    seed = next(n for n in range(100) if len(GITHUB.draw(n, Mode.LIVENESS, ()).stories) == 2)
    scenario, _ = shrunk(bad(GITHUB), GITHUB.draw(seed, Mode.LIVENESS, ()))
    assert len(scenario.stories) == 1


@pytest.mark.parametrize("world", [ENGINE, GITHUB], ids=lambda world: world.name)
def test_a_history_that_holds_is_not_shrunk(world: World[Any]) -> None:
    with pytest.raises(ValueError, match="nothing is violated"):
        shrunk(bad(world), world.draw(7, Mode.LIVENESS, tuple(CULPRITS)))
