"""What a test run has left on the machine: processes and mounts that bear one of its marks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 10.0  # what was told to end at the very end may take its time


def leftovers(*marks: str) -> list[str]:
    """Name what bears a mark, once what is just ending has had the time to.

    A process bears the words of its command and its environment, and the folder it works in.
    """
    late_at = time.monotonic() + GRACE_S
    while found := [*processes(*marks), *_mounts(*marks)]:
        if time.monotonic() > late_at:
            break
        time.sleep(0.1)  # processes tell nobody when they end
    return found


def processes(*marks: str) -> Iterator[str]:
    """Name the processes that bear a mark, but for this one and those that started it."""
    sought, own = [mark.encode() for mark in marks], _ancestors()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words = (place / "cmdline").read_bytes()
            known = words + (place / "environ").read_bytes() + bytes((place / "cwd").readlink())
            if int(place.name) not in own and any(mark in known for mark in sought):
                told = words.replace(b"\0", b" ").decode("utf-8", "replace")
                yield f"process {place.name}: {told}"


def _ancestors() -> set[int]:
    """Return this process and those it was started by: the folder may be one of their options."""
    found, pid = set[int](), os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return found


def _mounts(*marks: str) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        if any(mark in line for mark in marks):
            yield f"mount {line}"
