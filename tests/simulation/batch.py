"""Live through many histories, in several processes, and add up what they were."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.fates import Fate
from tests.simulation.oracles import Violation
from tests.simulation.scenario import Mode
from tests.simulation.worlds import WORLDS

CHUNK = 20  # histories a worker takes at a time: seconds
LIFE = 200  # chunks until a worker is replaced by a new one, so that its memory stays bounded
TOLD = 100  # violations that are kept; further ones are only counted


@dataclass
class Batch:
    """What some histories were."""

    world: str = "engine"
    histories: int = 0
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # injected, by "kind fate"
    marks: Counter[str] = field(default_factory=Counter)
    violated: int = 0
    violations: list[tuple[int, Mode, Violation]] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Add another batch to this one."""
        self.histories += other.histories
        self.calls += other.calls
        self.faults.update(other.faults)
        self.marks.update(other.marks)
        self.violated += other.violated
        self.violations += other.violations[: TOLD - len(self.violations)]

    @property
    def missed(self) -> list[str]:
        """Return the marks that none of the histories reached."""
        return sorted(WORLDS[self.world].marks - set(self.marks))


def simulate(seeds: Iterable[int], mode: Mode | None = None, world: str = "engine") -> Batch:
    """Live through these seeds in this process."""
    batch, kind = Batch(world=world), WORLDS[world]
    gc.freeze()  # what is imported is looked through no more
    for seed in seeds:
        its_mode = kind.mode_of(seed, mode)
        one = kind.live(kind.draw(seed, its_mode, ()))
        log = one.ended.record.log
        batch.histories += 1
        batch.calls += one.ended.calls
        batch.marks.update(one.marks)
        batch.faults.update(
            f"{call.kind} {call.fate}" for call in log if call.fate and call.fate != Fate.OK
        )
        batch.violated += len(one.violations)
        batch.violations += [(seed, its_mode, violation) for violation in one.violations]
    return batch


def in_processes(
    seeds: Sequence[int], mode: Mode | None, workers: int, world: str = "engine"
) -> Iterator[tuple[Batch, float]]:
    """Yield what all workers lived, in the order of the seeds, with the processor seconds of each.

    In order, so that whatever was yielded is all that came before some seed.
    """
    chunks = ((seeds[n : n + CHUNK], mode, world) for n in range(0, len(seeds), CHUNK))
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(workers, initializer=_uninterrupted, maxtasksperchild=LIFE) as pool:
        yield from pool.imap(_timed, chunks)


def _uninterrupted() -> None:
    """Leave Ctrl-C, which a terminal tells every process, to the one that ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _timed(chunk: tuple[Sequence[int], Mode | None, str]) -> tuple[Batch, float]:
    began = time.process_time()
    return simulate(*chunk), time.process_time() - began


def report(batch: Batch, tell: Callable[[str], object]) -> None:
    """Tell what a batch was."""
    marks = WORLDS[batch.world].marks
    tell(f"faults injected: {batch.faults.total()}")
    for name, number in sorted(batch.faults.items()):
        tell(f"  {name:32} {number}")
    tell(f"marks reached: {len(marks) - len(batch.missed)} of {len(marks)}")
    for name in sorted(marks):
        tell(f"  {name:32} {batch.marks[name]}")
    tell(f"violations: {batch.violated}")
    for seed, mode, one in batch.violations:
        tell(f"  {one.invariant} {one.text}")
        tell(f"    python -m tests.simulation --world {batch.world} --seed {seed} --mode {mode}")
