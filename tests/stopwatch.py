"""A clock for promises about time: begun, then read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache

TICK_S = 0.02


class Stopwatch:
    """Runs from its making on, but not while this process is stopped.

    What the kernel tells of waiting for processors and disks is counted all the same: with more
    workers than processors that is nearly all the time, and no bound could be missed any more.
    """

    def __init__(self) -> None:
        self._pulse = _pulse()
        self._began_s, self._lost_s = time.monotonic(), self._pulse.lost_s()

    @property
    def s(self) -> float:
        """Return the seconds that have passed."""
        lost_s = self._pulse.lost_s() - self._lost_s
        return max(0.0, self.wall_s - lost_s)

    @property
    def wall_s(self) -> float:
        """Return all seconds that have passed, for what may not have come too early."""
        return time.monotonic() - self._began_s


class _Pulse:
    """Beats as long as this process runs: whoever misses beats was stopped."""

    def __init__(self) -> None:
        self._seen = (time.monotonic(), 0.0)  # the last beat, what was lost until then
        threading.Thread(target=self._beat, daemon=True, name="stopwatch").start()

    def _beat(self) -> None:
        tick = threading.Event()
        while True:
            tick.wait(TICK_S)
            self._seen = (time.monotonic(), self.lost_s())

    def lost_s(self) -> float:
        """Return how long this process was stopped since its first stopwatch."""
        last_s, lost_s = self._seen
        late_s = time.monotonic() - last_s - TICK_S
        return lost_s + (late_s if late_s > TICK_S else 0.0)  # a little late is on time


_pulse = cache(_Pulse)


def least_processor_s(work: Callable[[], object]) -> float:
    """Return the least of five times of processor that `work` took in this process, in seconds.

    What else the process does at that moment, such as collecting its garbage, is no work of it:
    in a worker that has collected ten thousand tests that alone takes a tenth of a second.
    """

    def once() -> float:
        began_s = time.process_time()
        work()
        return time.process_time() - began_s

    return min(once() for _ in range(5))
