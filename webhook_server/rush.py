"""Let requests at a busy door go before the loop that works on what they bring."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# Who sends one request after another is back within a millisecond or two; nobody notices five.
QUIET_S = 0.005


class Rush:
    """Counts who stands at the door: `with rush:` around a request.

    A hint, never the truth: what waits for it is only later. Requests come in one thread, that of
    the event loop: they take no lock, and wake nobody unless somebody waits for the last of them.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._count = 0
        self._left_at_s = -math.inf  # nobody was here yet
        self._over: threading.Event | None = None  # of who waits

    def __enter__(self) -> None:
        """Count a request."""
        self._count += 1

    def __exit__(self, *_: object) -> None:
        """Count it no more, whether it is answered or failed."""
        self._count -= 1
        self._left_at_s = self._clock_s()
        over = self._over  # whoever waits may give up meanwhile
        if over is not None and not self._count:
            over.set()

    def wait_out(self, limit_s: float) -> bool:
        """Return when nobody has stood at the door for a moment, or after `limit_s`.

        True: it has waited. For one thread at a time.
        """
        ends_at_s, waited = self._clock_s() + limit_s, False
        while (left_s := ends_at_s - self._clock_s()) > 0:
            over = self._over = threading.Event()
            # Said before the look: the last request sees who waits, or is seen to be over.
            wait_s = left_s if self._count else self._left_at_s + QUIET_S - self._clock_s()
            if wait_s <= 0:
                break
            over.wait(min(wait_s, left_s))
            waited = True
        self._over = None
        return waited
