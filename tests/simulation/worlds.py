"""The two kinds of histories: how each is drawn, lived, judged and made smaller."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

from tests.simulation import oracles_github
from tests.simulation.ended import Ended
from tests.simulation.fates import FAULTS
from tests.simulation.history import History
from tests.simulation.hub import HubHistory, history_of
from tests.simulation.hub_scenario import HubScenario, drawn_with_github
from tests.simulation.marks import MARKS, marks
from tests.simulation.marks_github import MARKS as GITHUB_MARKS
from tests.simulation.marks_github import marks_with_github
from tests.simulation.oracles import Violation, violations
from tests.simulation.scenario import Mode, Scenario, drawn
from tests.simulation.store import Store
from tests.simulation.weather import Weather

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Lived:
    """A history that is over, and what is to be said of it."""

    ended: Ended
    violations: list[Violation]
    marks: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class World(Generic[S]):
    """A kind of histories; `S` is all that is decided before one begins."""

    name: str
    draw: Callable[[int, Mode, Collection[str]], S]
    live: Callable[[S], Lived]
    marks: frozenset[str]  # a batch of ten thousand must reach each
    switches: tuple[str, ...]  # what may be switched off, the largest first
    below: Callable[[S], Scenario]  # the part that is the engine's
    limited: Callable[[S, float], S]  # with so many faults at most
    fewer: Callable[[S], Iterator[S]]  # with less that anybody wants
    safety_every: int = 0  # so many histories one never heals; 0: all do

    def mode_of(self, seed: int, mode: Mode | None = None) -> Mode:
        """Return the mode of a seed, unless one mode is asked for."""
        safety = self.safety_every and seed % self.safety_every == self.safety_every - 1
        return mode or (Mode.SAFETY if safety else Mode.LIVENESS)


@functools.cache
def the_store() -> Store:
    """Return this process's database, made once."""
    return Store()


# ── the engine ──────────────────────────────────────────────────────────────────────────────────


def lived(scenario: Scenario) -> Ended:
    """Return what is left of a history."""
    return History(scenario, the_store()).live()


def _engine(scenario: Scenario) -> Lived:
    ended = lived(scenario)
    return Lived(ended=ended, violations=violations(ended), marks=marks(ended))


def _fewer_runs(scenario: Scenario) -> Iterator[Scenario]:
    if len(scenario.wanted) > 1:
        yield replace(scenario, wanted=scenario.wanted[:1])


_SWITCHES = (
    *("far", "gang", "warm", "budget", "cancel", "stray", "death", "poison"),
    *("clock", "pause", "kill", "cut", "repeat", "full", "hide", "take", "reboot"),
    *("agent.beat", "agent.enrol", "agent.next"),
    *("db.read", "db.write"),
    *("cloud.offers", "cloud.create", "cloud.get", "cloud.list", "cloud.delete"),
    *(fate.value for fate in FAULTS),
)
ENGINE: World[Scenario] = World(
    name="engine",
    draw=drawn,
    live=_engine,
    marks=MARKS,
    switches=_SWITCHES,
    below=lambda scenario: scenario,
    limited=lambda scenario, most: replace(scenario, most=most),
    fewer=_fewer_runs,
    safety_every=4,
)

# ── with GitHub ─────────────────────────────────────────────────────────────────────────────────


def _with_github(scenario: HubScenario) -> Lived:
    history = HubHistory(scenario, the_store())
    ended = history.live()
    told = history_of(history, ended)
    said = (text.partition(": ") for text in oracles_github.judge(told))
    found = [Violation(invariant=invariant, text=text) for invariant, _, text in said]
    return Lived(
        ended=ended,
        violations=violations(ended) + found,
        marks=marks_with_github(ended, told),
    )


def _fewer_stories(scenario: HubScenario) -> Iterator[HubScenario]:
    if len(scenario.stories) > 1:
        yield from (replace(scenario, stories=(one,)) for one in scenario.stories)


GITHUB: World[HubScenario] = World(
    name="github",
    draw=drawn_with_github,
    live=_with_github,
    marks=GITHUB_MARKS,
    switches=(*(field.name for field in fields(Weather)), "lag", "github", *_SWITCHES),
    below=lambda scenario: scenario.world,
    limited=lambda scenario, most: replace(scenario, world=replace(scenario.world, most=most)),
    fewer=_fewer_stories,
)
WORLDS: dict[str, World[Any]] = {world.name: world for world in (ENGINE, GITHUB)}
