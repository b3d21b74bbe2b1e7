"""Draw what people do on GitHub in a history, and how GitHub fares."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from tests.simulation.fates import Plan
from tests.simulation.scenario import Mode, Scenario, wide
from tests.simulation.weather import Weather, weather_of

#: What can happen in a history; each is a method of `people.People`, and begins at most two runs.
STORIES = (
    "push",
    "push_twice",
    "push_and_submit_late",
    "ask_to_run",
    "ask_and_lose_the_right",
    "ask_without_the_right",
    "ask_in_foreign_words",
    "ask_and_cancel",
    "ask_of_a_fork",
    "approve_without_looking",
    "press_cancel",
    "press_again",
    "close",
    "meddle_with_strangers",
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """Something that people begin to do at a moment of the history."""

    at: float
    name: str


@dataclass(frozen=True, kw_only=True)
class HubScenario:
    """A history with GitHub: the world below it, the weather of webhooks, what people do."""

    world: Scenario
    weather: Weather
    stories: tuple[Story, ...]
    lag_s: float  # how long GitHub's servers may disagree
    has_outputs: bool


def drawn_with_github(
    seed: int, mode: Mode = Mode.LIVENESS, off: Collection[str] = ()
) -> HubScenario:
    """Draw a history: each seed has its own people, weather and faults."""
    chance = random.Random(f"{seed}/hub")
    world = replace(wide(seed, mode, off), wanted=(), dies_at=None, stray=False)
    # Two stories: more would only make a history longer, and no two of them more likely to meet.
    names = [chance.choice(STORIES) for _ in range(chance.choice([1, 2, 2]))]
    weather = weather_of(chance)
    return HubScenario(
        world=world,
        weather=replace(weather, **{name: 0.0 for name in off if hasattr(weather, name)}),
        stories=tuple(Story(at=chance.random() * 60, name=name) for name in names),
        lag_s=8.0 if chance.random() < 0.4 and "lag" not in off else 0.0,
        has_outputs=chance.random() < 0.4,
    )


def calm(
    *names: str,
    has_outputs: bool = False,
    plan: Plan | None = None,
    weather: Weather | None = None,
    seed: int = 0,
) -> HubScenario:
    """Return a history in which all is well, but for the plan's one fault."""
    return HubScenario(
        world=Scenario(
            seed=seed, by_chance=False, replicas=1, wanted=(), heals_at=300.0, plan=plan
        ),
        weather=weather or Weather(),
        stories=tuple(Story(at=0.0, name=name) for name in names),
        lag_s=0.0,
        has_outputs=has_outputs,
    )
