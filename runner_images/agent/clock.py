"""Count seconds in a way that no change of the calendar clock can disturb."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def elapsed_s() -> float:
    """Return seconds since the machine started, those of its sleep included.

    A paused and resumed VM must notice how long it was cut off: CLOCK_MONOTONIC would not tell.
    https://man7.org/linux/man-pages/man2/clock_gettime.2.html
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def wall_clock() -> datetime:
    """Return this machine's idea of the time: a claim that the server never relies on."""
    return datetime.now(UTC)  # noqa: TID251 - the agent's one reading of the calendar


def wall_ns() -> int:
    """Return the same in nanoseconds since 1970: what file systems stamp files with."""
    return time.time_ns()
