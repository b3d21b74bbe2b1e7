"""The control groups of a machine: its limits, its freezer, and the list of all that lives in it.

Version 1, one folder a controller: https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulators.gcp_machines import PlayError

MOUNT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "memory", "freezer")
PERIOD_US = 100_000  # the kernel's own default of cpu.cfs_period_us
# A group weighs as much as one process, whatever it holds: on a busy host all machines together
# would get what one test gets. A machine weighs as its processors, all of them as a few machines.
ONE_PROCESS = 1024  # the kernel's own default of cpu.shares
ALL_MACHINES = 8
DEATH_S = 10.0  # what was killed is gone in milliseconds; a busy disk may hold it up
_PAUSE_S = 0.01


def hierarchies() -> list[Path]:
    """Return the version 1 hierarchies of this host. Raises PlayError."""
    found = [path for path in sorted(MOUNT.glob("*")) if (path / "release_agent").exists()]
    real = [path for path in found if not path.is_symlink()]
    missing = set(NEEDED) - {path.name for path in found}
    if missing:
        raise PlayError(
            f"machines in namespaces need cgroup version 1 at {MOUNT}, and there is no "
            f"{', '.join(sorted(missing))} controller. Play them as processes instead."
        )
    return real


@dataclass(frozen=True)
class Group:
    """The same group in every hierarchy."""

    name: str  # relative to the hierarchies' roots

    @property
    def folders(self) -> list[Path]:
        """Return its folder in each hierarchy, whether it is there or not."""
        return [path / self.name for path in hierarchies()]

    def make(self, *, cpus: int, memory_bytes: int) -> None:
        """Make it with its limits. Safe to repeat."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._own_all_processors()
        self._set("cpu", "cpu.cfs_quota_us", cpus * PERIOD_US)
        self._set("cpu", "cpu.shares", cpus * ONE_PROCESS)
        above = MOUNT / "cpu" / Path(self.name).parent
        if above != MOUNT / "cpu":
            (above / "cpu.shares").write_text(str(ALL_MACHINES * ONE_PROCESS))
        self._set("memory", "memory.limit_in_bytes", memory_bytes)

    def _own_all_processors(self) -> None:
        """Fill its cpuset, which starts empty and takes no process so; parents first."""
        root = MOUNT / "cpuset"
        if not root.is_dir():
            return
        place = root
        for part in Path(self.name).parts:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (place / part / file).write_text((place / file).read_text())
            place = place / part

    def freeze(self, *, frozen: bool) -> None:
        """Stop every process in it where it stands, or let them go on. Safe to repeat."""
        with contextlib.suppress(FileNotFoundError):
            self._set("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")

    def processes(self) -> list[int]:
        """Return all that live in it or below, in any hierarchy: who joins does so one by one."""
        pids: set[int] = set()
        for folder in self.folders:
            for place in _below(folder):
                with contextlib.suppress(OSError):
                    pids |= {int(line) for line in (place / "cgroup.procs").read_text().split()}
        return sorted(pids)

    def kill(self) -> None:
        """End all that live in it, and return when they are gone. Safe to repeat."""
        until = time.monotonic() + DEATH_S
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.freeze(frozen=False)  # a frozen process dies only when it may go on
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name}: processes {pids} did not end in {DEATH_S} s")
            time.sleep(_PAUSE_S)

    def remove(self) -> None:
        """Kill all in it and remove it. Safe to repeat."""
        self.kill()
        until = time.monotonic() + DEATH_S
        while left := [folder for folder in self.folders if not _removed(folder)]:
            if time.monotonic() > until:
                raise TimeoutError(f"{left[0]}: still busy after {DEATH_S} s")
            time.sleep(_PAUSE_S)

    def _set(self, controller: str, file: str, value: object) -> None:
        (MOUNT / controller / self.name / file).write_text(str(value))


def _below(folder: Path) -> Iterator[Path]:
    """Yield a group's folder and all below it, the deepest first."""
    for place, _, _ in os.walk(folder, topdown=False):
        yield Path(place)


def _removed(folder: Path) -> bool:
    for place in _below(folder):
        with contextlib.suppress(OSError):  # busy for a moment after its last process
            place.rmdir()
    return not folder.exists()
