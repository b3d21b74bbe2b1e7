"""Live one history and return what every oracle says of it."""

from __future__ import annotations

from tests.simulation import engine_stories, oracles, oracles_github
from tests.simulation.ended import Ended
from tests.simulation.fates import Plan
from tests.simulation.github_history import GithubHistory
from tests.simulation.history import History
from tests.simulation.hub import HubHistory, beats_of, history_of
from tests.simulation.hub_scenario import HubScenario, calm, drawn_with_github
from tests.simulation.scenario import Scenario, drawn
from tests.simulation.weather import Weather
from tests.simulation.worlds import the_store


def with_github(scenario: HubScenario) -> tuple[Ended, list[str]]:
    """Live a history with GitHub; return it with all violations."""
    history = HubHistory(scenario, the_store())
    ended = history.live()
    return ended, judged(history, ended)


def judged(history: HubHistory, ended: Ended) -> list[str]:
    """Return all violations of a history with GitHub, those of the engine too."""
    said = [f"{one.invariant}: {one.text}" for one in oracles.violations(ended)]
    return said + oracles_github.judge(history_of(history, ended))


def calm_story(
    name: str, plan: Plan | None = None, weather: Weather | None = None, seed: int = 0
) -> list[str]:
    """Return what is said of a history in which one story happens, and at most one fault."""
    return with_github(calm(name, has_outputs=True, plan=plan, weather=weather, seed=seed))[1]


def engine_story(name: str, seed: int = 0) -> list[str]:
    """Return what is said of a history that is written down."""
    return _engine(engine_stories.story(name, seed))


def seeded(world: str, seed: int) -> list[str]:
    """Return what is said of the history of a seed."""
    if world == "hub":
        return with_github(drawn_with_github(seed))[1]
    return _engine(drawn(seed))


def _engine(scenario: Scenario) -> list[str]:
    history = History(scenario, the_store())
    ended = history.live()
    said = [f"{one.invariant}: {one.text}" for one in oracles.violations(ended)]
    return said + list(oracles_github.beats_are_their_own(GithubHistory(beats=beats_of(history))))
