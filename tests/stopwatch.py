"""A clock for promises about time, which does not count what a busy machine let somebody wait."""

from __future__ import annotations

import time
from pathlib import Path

# Microseconds in which at least one task waited for a processor or a disk, since the boot:
# https://docs.kernel.org/accounting/psi.html. Where the kernel does not count them, nothing is
# taken off.
_PRESSURE = [Path("/proc/pressure/cpu"), Path("/proc/pressure/io")]


class Stopwatch:
    """Runs from its making on.

    A promise such as "told within a second" is about programs that may run when they have work. A
    machine with other tests at work lets them wait, and tells for how long: on a quiet one that is
    next to nothing, and the promise is held to the letter.
    """

    def __init__(self) -> None:
        self._began_s, self._stalled_s = time.monotonic(), _stalled_s()

    @property
    def real_s(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self._began_s

    @property
    def s(self) -> float:
        """Return the seconds that have passed, without those in which somebody had to wait."""
        return max(0.0, self.real_s - (_stalled_s() - self._stalled_s))


def _stalled_s() -> float:
    """Return the total of the lines `some avg10=… total=MICROSECONDS`."""
    some = (path.read_text().splitlines()[0] for path in _PRESSURE if path.exists())
    return sum(int(line.rpartition("=")[2]) for line in some) / 1e6
