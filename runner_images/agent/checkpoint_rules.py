"""Decide when a folder that is written to holds a whole checkpoint: pure.

A program writes its checkpoint while nobody asks it to wait. What is saved must be a state in
which the folder has stood still (docs/checkpoints.md, "What is taken"):

- A file that was written within the last SETTLE_NS is being written, for all we know.
- All files of the folder are one set: nothing is taken while any of them is being written, or when
  two looks differ, since the parts of a checkpoint belong together.
- A file that every look has found being written for RESTLESS_NS is no part of a set: a log. It is
  taken alone, as it was while it was read, if it held still that long.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

# A writer that pauses longer between two writes of one file has to write beside it and rename.
SETTLE_NS = 2_000_000_000
# A checkpoint of 100 GB takes this long to be written at 800 MB/s, the rate of a local SSD.
RESTLESS_NS = 120_000_000_000
#: Steps remembered; older ones are thinned out. 4096 moments are 0.5 MB.
STEPS_KEPT = 4096


@dataclass(frozen=True)
class Stamp:
    """By what a file is known to be unchanged without reading it."""

    size_bytes: int
    modified_ns: int
    inode: int
    executable: bool = False
    link: str | None = None  # where a symbolic link points


@dataclass(frozen=True)
class Look:
    """The folder as it was seen at one moment."""

    at_ns: int  # by the clock that stamps the files
    files: Mapping[str, Stamp]  # by path relative to the folder
    left_out: Mapping[str, str] = field(default_factory=dict)  # path → why it cannot be saved


#: Path → since when every look has found it being written.
Unrest = Mapping[str, int]


def moving(before: Look | None, now: Look) -> frozenset[str]:
    """Return what is being written, has gone or has come since the look `before` this one."""
    young = {
        path
        for path, stamp in now.files.items()
        # A time to come says nothing about the past: the next look will tell.
        if 0 <= now.at_ns - stamp.modified_ns < SETTLE_NS
    }
    return frozenset(young) if before is None else frozenset(young | differing(before, now))


def differing(before: Look, now: Look) -> set[str]:
    """Return the paths that are not the same in both looks."""
    paths = before.files.keys() | now.files.keys()
    return {path for path in paths if before.files.get(path) != now.files.get(path)}


def follow(unrest: Unrest, found: frozenset[str], now: Look) -> Unrest:
    """Return since when each file is being written; `found`: those of this look."""
    return {path: unrest.get(path, now.at_ns) for path in found if path in now.files}


def loose(unrest: Unrest, at_ns: int) -> frozenset[str]:
    """Return the files that never rest: they are taken alone."""
    return frozenset(path for path, since in unrest.items() if at_ns - since >= RESTLESS_NS)


@dataclass(frozen=True)
class Told:
    """How far the command said that it is."""

    step: int | None = None
    progress: float | None = None


class Steps:
    """What the command told by `::metric … step=` and `::progress::`, with when; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_ns: list[int] = []
        self._told: list[Told] = []

    def hear(self, at_ns: int, *, step: int | None = None, progress: float | None = None) -> None:
        """Note a step or a progress; the other one stays as it was."""
        with self._lock:
            last = self._told[-1] if self._told else Told()
            told = Told(
                last.step if step is None else step,
                last.progress if progress is None else progress,
            )
            if told == last:
                return
            self._at_ns.append(max(at_ns, self._at_ns[-1] if self._at_ns else at_ns))
            self._told.append(told)
            if len(self._told) > STEPS_KEPT:
                # The older half loses every second moment: recent ones are asked for.
                half = len(self._told) // 2
                self._at_ns[:half] = self._at_ns[1:half:2]
                self._told[:half] = self._told[1:half:2]

    def at(self, moment_ns: int) -> Told:
        """Return what was told until then: what a file written at that moment may hold."""
        with self._lock:
            place = bisect.bisect_right(self._at_ns, moment_ns)
            return self._told[place - 1] if place else Told()
