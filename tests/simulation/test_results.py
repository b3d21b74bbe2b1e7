"""A batch that was cut short is gone on with, as if it had been lived at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.batch import TOLD, Batch, simulate
from tests.simulation.oracles import Violation
from tests.simulation.results import begun, keep
from tests.simulation.scenario import Mode


def test_two_halves_are_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "out" / "simulation_engine.json"
    first = begun(path, "engine", 40, None)
    first.add(simulate(range(40, 42)), 1.0)
    keep(path, first)
    second = begun(path, "engine", 42, None)
    second.add(simulate(range(42, 44)), 2.0)
    assert (second.first, second.next, second.cpu_s) == (40, 44, 3.0)
    assert second.batch == simulate(range(40, 44))


@pytest.mark.parametrize(
    ("world", "first", "mode"),
    [("engine", 0, None), ("engine", 6, None), ("engine", 5, Mode.SAFETY), ("github", 5, None)],
)
def test_what_does_not_follow_begins_anew(
    world: str, first: int, mode: Mode | None, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    kept = begun(path, "engine", 0, None)
    kept.add(Batch(histories=5, calls=7), 1.0)
    keep(path, kept)
    assert begun(path, "engine", 5, None).batch.calls == 7
    new = begun(path, world, first, mode)
    assert (new.first, new.next, new.batch.histories, new.batch.world) == (first, first, 0, world)


def test_of_countless_violations_some_are_told() -> None:
    found = [(n, Mode.SAFETY, Violation(invariant="I1", text="it lives")) for n in range(TOLD)]
    whole = Batch()
    for _ in range(3):
        whole.add(Batch(histories=9, violated=TOLD, violations=found, marks=Counter(gang=1)))
    assert (whole.violated, len(whole.violations)) == (3 * TOLD, TOLD)
    assert whole.marks["gang"] == 3
