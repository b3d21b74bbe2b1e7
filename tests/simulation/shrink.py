"""Make a failing history short: fewer kinds of faults, then fewer faults, then an earlier end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.ended import Ended
from tests.simulation.fates import FAULTS
from tests.simulation.oracles import Violation, violations
from tests.simulation.scenario import Scenario, drawn

#: What may be switched off, the largest first.
SWITCHES = (
    *("far", "gang", "warm", "budget", "cancel", "stray", "death", "poison"),
    *("clock", "pause", "kill", "cut", "repeat", "full", "hide", "take", "reboot"),
    *("agent.beat", "agent.enrol", "agent.next"),
    *("db.read", "db.write"),
    *("cloud.offers", "cloud.create", "cloud.get", "cloud.list", "cloud.delete"),
    *(fate.value for fate in FAULTS),
)

Live = Callable[[Scenario], Ended]


def shrunk(scenario: Scenario, live: Live) -> tuple[Scenario, list[Violation]]:
    """Return the shortest history found that still violates the same invariant, and how.

    Raises: ValueError, if the history violates none.
    """
    found = violations(live(scenario))
    if not found:
        raise ValueError(f"seed {scenario.seed}: nothing is violated")
    wanted = {one.invariant for one in found}
    for smaller in _with_less(scenario):
        told = violations(live(smaller))
        if wanted & {one.invariant for one in told}:
            return _further(smaller, told, live)
    return scenario, found


def _further(
    scenario: Scenario, found: list[Violation], live: Live
) -> tuple[Scenario, list[Violation]]:
    """Switch off whatever is not needed, then bisect the number of faults."""
    wanted = {one.invariant for one in found}

    def fails(candidate: Scenario) -> list[Violation]:
        told = violations(live(candidate))
        return told if wanted & {one.invariant for one in told} else []

    for smaller in _switched(scenario):
        candidate = smaller(scenario)
        told = fails(candidate)
        if told:
            scenario, found = candidate, told
    low, high = 0, live(scenario).injected
    while low < high:
        middle = (low + high) // 2
        candidate = replace(scenario, most=middle)
        told = fails(candidate)
        if told:
            scenario, found, high = candidate, told, middle
        else:
            low = middle + 1
    return scenario, found


def _with_less(scenario: Scenario) -> Iterator[Scenario]:
    yield from (smaller(scenario) for smaller in _switched(scenario))
    yield scenario


def _switched(scenario: Scenario) -> Iterator[Callable[[Scenario], Scenario]]:
    for name in SWITCHES:
        if name not in scenario.off:
            yield lambda one, name=name: drawn(one.seed, one.mode, (*one.off, name))
    if len(scenario.wanted) > 1:
        yield lambda one: replace(one, wanted=one.wanted[:1])
