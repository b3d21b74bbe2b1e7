"""Let requests at a busy door go before the loop that works on what they bring."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Rush:
    """Counts who stands at the door. A hint, never the truth: what waits for it is only later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Count a request until it is answered."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                if not self._count:
                    self._changed.notify_all()

    def wait_out(self, limit_s: float) -> None:
        """Return when nobody stands at the door, or after `limit_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, limit_s)
