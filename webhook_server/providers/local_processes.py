"""Find and end processes of this machine, without taking one for another."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STATE, _SESSION, _START = 0, 3, 19  # fields of /proc/<pid>/stat behind the name in parentheses


@dataclass(frozen=True)
class Recorded:
    """A process as it was written down; the start tells it from a later one with its number."""

    pid: int
    start_ticks: int | None

    @property
    def is_this(self) -> bool:
        """Say whether the process of this number is still the recorded one."""
        return _alive(self.pid) and start_ticks(self.pid) == self.start_ticks

    def end(self, number: signal.Signals) -> None:
        """Signal the process with its whole group, if it is still the recorded one."""
        if self.is_this:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def write_record(path: Path, pid: int) -> None:
    """Write down a process that was just started."""
    text = json.dumps({"pid": pid, "start_ticks": start_ticks(pid)})
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)  # whole or not at all


def read_record(path: Path) -> Recorded | None:
    """Read what was written down; None: nothing, or not whole."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return Recorded(int(found["pid"]), found["start_ticks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_ticks(pid: int) -> int | None:
    """Return when the process began, in ticks since boot; None: it is gone, or no Linux."""
    fields = _stat(pid)
    return int(fields[_START]) if fields else None


def lock(path: Path) -> int | None:
    """Take a lock that ends with the last process that has it open; None: somebody holds it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number


def is_locked(path: Path) -> bool:
    """Say whether somebody holds the lock."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False


def with_argument(option: str, value: str) -> list[Recorded]:
    """Return the processes that were started with `option value`."""
    needle = f"\0{option}\0{value}\0".encode()
    return [Recorded(pid, start_ticks(pid)) for pid in _pids() if needle in _read(pid, "cmdline")]


def of_session(session: Recorded) -> list[int]:
    """Return the living processes of a session, as long as no stranger leads it."""
    leader = _stat(session.pid)
    if leader is not None and int(leader[_START]) != session.start_ticks:
        return []
    found = ((pid, _stat(pid)) for pid in _pids())
    return [pid for pid, stat in found if stat and int(stat[_SESSION]) == session.pid]


def with_environment(name: str, value: str) -> list[int]:
    """Return the living processes that carry `name=value`."""
    needle = f"\0{name}={value}\0".encode()
    return [pid for pid in _pids() if needle in _read(pid, "environ") and _alive(pid)]


def kill(pids: list[int]) -> None:
    """Kill each of them that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    if not _PROC.is_dir():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
        return False
    fields = _stat(pid)
    return fields is not None and fields[_STATE] not in "ZX"


def _pids() -> list[int]:
    if not _PROC.is_dir():
        return []
    return [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:  # it has ended
        return None
    return text.rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return b"\0" + (_PROC / str(pid) / name).read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""
