"""A clock for promises about time: begun, then read."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

TICK_S = 0.02


class Stopwatch:
    """Runs from its making on, but neither while this process nor while the machine falls behind.

    A promise is about what our programs choose to wait for. On a busy machine they, and the test
    beside them, also wait for a processor or a disk: that time does not count. On an idle one
    nothing is left out.
    """

    def __init__(self) -> None:
        self._pulse = _pulse()
        self._began_s, self._lost_s = time.monotonic(), self._pulse.lost_s() + _machine_lost_s()

    @property
    def s(self) -> float:
        """Return the seconds that have passed."""
        lost_s = self._pulse.lost_s() + _machine_lost_s() - self._lost_s
        return max(0.0, self.wall_s - lost_s)

    @property
    def wall_s(self) -> float:
        """Return all seconds that have passed, for what may not have come too early."""
        return time.monotonic() - self._began_s


def _machine_lost_s() -> float:
    """Return how long programs of this machine have waited for a processor or a disk.

    `some`, in microseconds: https://docs.kernel.org/accounting/psi.html. Without the file: none.
    """
    lost_us = 0
    for what in ("cpu", "io"):
        with suppress(OSError):  # a kernel that was built without it
            some = Path(f"/proc/pressure/{what}").read_text().splitlines()[0]
            lost_us += int(some.rpartition("total=")[2])
    return lost_us / 1e6


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
