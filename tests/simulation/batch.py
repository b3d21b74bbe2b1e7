"""Live through many histories, in several processes, and add up what they were."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.ended import Ended
from tests.simulation.fates import Fate
from tests.simulation.history import History
from tests.simulation.marks import MARKS, marks
from tests.simulation.oracles import Violation, violations
from tests.simulation.scenario import Mode, Scenario, drawn
from tests.simulation.store import Store

CHUNK = 20  # histories a worker takes at a time: seconds


@dataclass
class Batch:
    """What some histories were."""

    histories: int = 0
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # injected, by "kind fate"
    marks: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, Mode, Violation]] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Add another batch to this one."""
        self.histories += other.histories
        self.calls += other.calls
        self.faults.update(other.faults)
        self.marks.update(other.marks)
        self.violations += other.violations

    @property
    def missed(self) -> list[str]:
        """Return the marks that none of the histories reached."""
        return sorted(MARKS - set(self.marks))


_stores: list[Store] = []


def the_store() -> Store:
    """Return this process's database, made once."""
    if not _stores:
        _stores.append(Store())
    return _stores[0]


def lived(scenario: Scenario) -> Ended:
    """Return what is left of a history."""
    return History(scenario, the_store()).live()


def mode_of(seed: int, mode: Mode | None) -> Mode:
    """Return the mode of a seed: every fourth never heals, unless one mode is asked for."""
    return mode or (Mode.SAFETY if seed % 4 == 3 else Mode.LIVENESS)


def simulate(seeds: Iterable[int], mode: Mode | None = None) -> Batch:
    """Live through these seeds in this process."""
    batch = Batch()
    for seed in seeds:
        scenario = drawn(seed, mode_of(seed, mode))
        ended = lived(scenario)
        batch.histories += 1
        batch.calls += ended.calls
        batch.marks.update(marks(ended))
        batch.faults.update(
            f"{one.kind} {one.fate}" for one in ended.record.log if one.fate and one.fate != Fate.OK
        )
        batch.violations += [(seed, scenario.mode, one) for one in violations(ended)]
    return batch


def in_processes(
    seeds: Sequence[int], mode: Mode | None, workers: int
) -> Iterator[tuple[Batch, float]]:
    """Yield the batches of all workers as they come, with the processor seconds of each."""
    chunks = [(seeds[n : n + CHUNK], mode) for n in range(0, len(seeds), CHUNK)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_timed, chunks)


def _timed(chunk: tuple[Sequence[int], Mode | None]) -> tuple[Batch, float]:
    began = time.process_time()
    return simulate(*chunk), time.process_time() - began


def report(batch: Batch, tell: Callable[[str], object]) -> None:
    """Tell what a batch was."""
    tell(f"faults injected: {batch.faults.total()}")
    for name, number in sorted(batch.faults.items()):
        tell(f"  {name:32} {number}")
    tell(f"marks reached: {len(MARKS) - len(batch.missed)} of {len(MARKS)}")
    for name in sorted(MARKS):
        tell(f"  {name:32} {batch.marks[name]}")
    tell(f"violations: {len(batch.violations)}")
    for seed, mode, one in batch.violations:
        tell(f"  {one.invariant} {one.text}")
        tell(f"    python -m tests.simulation --seed {seed} --mode {mode}")
