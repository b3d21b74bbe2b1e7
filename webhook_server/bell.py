"""Wake the server's own loops when there is news, so that nothing on the happy path is polled."""

from __future__ import annotations

import threading
from collections import defaultdict


class Bell:
    """Counts rings by topic; a loop waits for a ring that came after its last look.

    A hint and never the truth: a lost ring costs the loop's ordinary wait, nothing else.
    Topics: "runs", "deliveries", "publications", "events/<run id>".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: dict[str, int] = defaultdict(int)
        # One a topic that is waited for: a thousand heartbeats a second must not wake the loops
        # that wait for something else. The topics of loops are few, and they stay.
        self._waiting: dict[str, threading.Condition] = {}

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        with self._lock:
            self._rings[topic] += 1
            if topic in self._waiting:
                self._waiting[topic].notify_all()

    def count(self, topic: str) -> int:
        """Return how often it rang: take this before looking, give it to `wait` after."""
        with self._lock:
            return self._rings.get(topic, 0)

    def wait(self, topic: str, seen: int, timeout_s: float) -> None:
        """Return when `topic` rang since `seen`, or after `timeout_s`."""
        with self._lock:
            news = self._waiting.setdefault(topic, threading.Condition(self._lock))
            news.wait_for(lambda: self._rings.get(topic, 0) != seen, timeout_s)
