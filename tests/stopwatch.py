"""A clock for promises about time: begun, then read."""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    @property
    def s(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self._began_s
