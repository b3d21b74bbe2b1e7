"""Count what happens at the doors, for /metrics."""

from __future__ import annotations

import threading
from collections import Counter


class Counters:
    """Requests by door and status, and whatever else a door counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._named: Counter[str] = Counter()

    def request(self, door: str, status: int) -> None:
        """Count one answered request."""
        with self._lock:
            self._requests[door, status] += 1

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a plain counter, such as `heartbeats_total`."""
        with self._lock:
            self._named[name] += amount

    def requests(self) -> dict[tuple[str, int], int]:
        """Return the requests so far."""
        with self._lock:
            return dict(self._requests)

    def named(self) -> dict[str, int]:
        """Return the plain counters."""
        with self._lock:
            return dict(self._named)
