"""Let requests at a busy door go before the loop that works on what they bring."""

from __future__ import annotations

import threading


class Rush:
    """Counts who stands at the door: `with rush:` around a request.

    A hint, never the truth: what waits for it is only later. Requests come in one thread; they
    take no lock, and wake nobody unless somebody waits for the last of them.
    """

    def __init__(self) -> None:
        self._count = 0
        self._quiet: threading.Event | None = None  # of who waits

    def __enter__(self) -> None:
        """Count a request."""
        self._count += 1

    def __exit__(self, *_: object) -> None:
        """Count it no more, whether it is answered or failed."""
        self._count -= 1
        quiet = self._quiet  # whoever waits may give up meanwhile
        if quiet is not None and not self._count:
            quiet.set()

    def wait_out(self, limit_s: float) -> None:
        """Return when nobody stands at the door, or after `limit_s`. One thread waits."""
        quiet = self._quiet = threading.Event()
        # Said before the look: the last request sees that somebody waits, or is seen to be over.
        if self._count:
            quiet.wait(limit_s)
        self._quiet = None
