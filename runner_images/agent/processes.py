"""Look at this machine's processes through /proc: https://man7.org/linux/man-pages/man5/proc.5.html."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat behind the name in parentheses, counted from 0.
_STATE, _SESSION, _USER_TICKS, _SYSTEM_TICKS, _START, _RSS = 0, 3, 11, 12, 19, 21


def start_ticks(pid: int) -> int | None:
    """Return when the process began, in ticks since boot: with the pid its identity."""
    fields = _stat(pid)
    return int(fields[_START]) if fields else None


def marked(name: str, value: str, *, session: int) -> list[int]:
    """Return the living processes of `session`, or with `name=value` in their environment."""
    needle = f"\0{name}={value}\0".encode()
    return [
        pid
        for pid in _pids()
        if (fields := _stat(pid)) is not None
        and fields[_STATE] not in "ZX"
        and (int(fields[_SESSION]) == session or needle in _environment(pid))
    ]


def cpu_and_memory(pids: Iterable[int]) -> tuple[float, int]:
    """Return seconds of processor time with bytes of resident memory of these processes."""
    ticks, pages = 0, 0
    for pid in pids:
        fields = _stat(pid)
        if fields is not None:
            ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
            pages += int(fields[_RSS])
    return ticks / _TICKS_PER_S, pages * _PAGE_BYTES


def _pids() -> list[int]:
    if not _PROC.is_dir():
        return []
    return [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:  # it has ended meanwhile
        return None
    return text.rpartition(")")[2].split()


def _environment(pid: int) -> bytes:
    try:
        return b"\0" + (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # another user's, or it has ended
        return b""
