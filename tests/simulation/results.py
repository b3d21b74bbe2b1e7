"""Keep what a batch of histories was so far: another one goes on where it was cut short."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.batch import Batch
from tests.simulation.oracles import Violation
from tests.simulation.scenario import Mode


@dataclass
class Kept:
    """A batch of the seeds from `first` to `next`, and what it took."""

    first: int
    next: int
    mode: Mode | None = None
    cpu_s: float = 0.0
    batch: Batch = field(default_factory=Batch)

    @property
    def per_minute_and_core(self) -> int:
        """Return how many histories a core lives in a minute."""
        return round(self.batch.histories / self.cpu_s * 60) if self.cpu_s else 0

    def add(self, part: Batch, cpu_s: float) -> None:
        """Add the seeds that follow."""
        self.batch.add(part)
        self.cpu_s += cpu_s
        self.next += part.histories


def begun(path: Path, world: str, first: int, mode: Mode | None) -> Kept:
    """Return the kept batch that ends just before this seed; else a new one."""
    new = Kept(first=first, next=first, mode=mode, batch=Batch(world=world))
    if first == 0 or not path.exists():
        return new
    known = _read(json.loads(path.read_text("utf-8")))
    goes_on = (known.next, known.mode, known.batch.world) == (first, mode, world)
    return known if goes_on else new


def keep(path: Path, kept: Kept) -> None:
    """Write a batch down. Safe to repeat."""
    batch = kept.batch
    told = {
        "world": batch.world,
        "first": kept.first,
        "next": kept.next,
        "mode": kept.mode,
        "cpu_s": round(kept.cpu_s, 1),
        "histories": batch.histories,
        "calls": batch.calls,
        "per_minute_and_core": kept.per_minute_and_core,
        "faults": dict(batch.faults),
        "marks": dict(batch.marks),
        "missed": batch.missed,
        "violated": batch.violated,
        "violations": [[seed, mode, asdict(one)] for seed, mode, one in batch.violations],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", "utf-8")
    whole.replace(path)  # a batch that is killed meanwhile leaves the one before


def _read(told: dict[str, Any]) -> Kept:
    batch = Batch(
        world=told["world"],
        histories=told["histories"],
        calls=told["calls"],
        faults=Counter(told["faults"]),
        marks=Counter(told["marks"]),
        violated=told["violated"],
        violations=[(seed, Mode(mode), Violation(**one)) for seed, mode, one in told["violations"]],
    )
    mode = Mode(told["mode"]) if told["mode"] else None
    return Kept(first=told["first"], next=told["next"], mode=mode, cpu_s=told["cpu_s"], batch=batch)
