"""Live one history and return what every oracle says of it."""

from __future__ import annotations

import functools

from tests.simulation import oracles, oracles_github
from tests.simulation.ended import Ended
from tests.simulation.history import History
from tests.simulation.hub import HubHistory, history_of
from tests.simulation.hub_scenario import HubScenario, calm, drawn_with_github
from tests.simulation.scenario import drawn
from tests.simulation.store import Store


@functools.cache
def the_store() -> Store:
    """Return this process's store: its tables are made once."""
    return Store()


def with_github(scenario: HubScenario) -> tuple[Ended, list[str]]:
    """Live a history with GitHub; return it with all violations."""
    history = HubHistory(scenario, the_store())
    ended = history.live()
    said = [f"{one.invariant}: {one.text}" for one in oracles.violations(ended)]
    return ended, said + oracles_github.judge(history_of(history, ended))


def calm_story(name: str) -> list[str]:
    """Return what is said of a history in which all is well, and one story happens."""
    return with_github(calm(name, has_outputs=True))[1]


def seeded(world: str, seed: int) -> list[str]:
    """Return what is said of the history of a seed."""
    if world == "hub":
        return with_github(drawn_with_github(seed))[1]
    ended = History(drawn(seed), the_store()).live()
    return [f"{one.invariant}: {one.text}" for one in oracles.violations(ended)]
