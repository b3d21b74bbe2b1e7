"""Make a failing history short: fewer kinds of faults, then fewer faults, then an earlier end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from tests.simulation.oracles import Violation
from tests.simulation.worlds import World

S = TypeVar("S")


def shrunk(world: World[S], scenario: S) -> tuple[S, list[Violation]]:
    """Return the shortest history found that still violates the same invariant, and how.

    Raises: ValueError, if the history violates none.
    """
    found = world.live(scenario).violations
    if not found:
        raise ValueError(f"seed {world.below(scenario).seed}: nothing is violated")
    wanted = {one.invariant for one in found}

    def fails(candidate: S) -> list[Violation]:
        told = world.live(candidate).violations
        return told if wanted & {one.invariant for one in told} else []

    for smaller in _smaller(world):
        for candidate in smaller(scenario):
            if told := fails(candidate):
                scenario, found = candidate, told
                break
    low, high = 0, world.live(scenario).ended.injected
    while low < high:
        middle = (low + high) // 2
        candidate = world.limited(scenario, middle)
        if told := fails(candidate):
            scenario, found, high = candidate, told, middle
        else:
            low = middle + 1
    return scenario, found


def _smaller(world: World[S]) -> Iterator[Callable[[S], Iterator[S]]]:
    """Yield what makes a history smaller, one step each."""
    for name in world.switches:
        yield lambda one, name=name: _without(world, one, name)
    yield world.fewer


def _without(world: World[S], scenario: S, name: str) -> Iterator[S]:
    below = world.below(scenario)
    if name not in below.off:
        yield world.draw(below.seed, below.mode, (*below.off, name))
