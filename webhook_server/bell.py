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
        self._news = threading.Condition()
        self._rings: dict[str, int] = defaultdict(int)

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        with self._news:
            self._rings[topic] += 1
            self._news.notify_all()

    def count(self, topic: str) -> int:
        """Return how often it rang: take this before looking, give it to `wait` after."""
        with self._news:
            return self._rings.get(topic, 0)

    def wait(self, topic: str, seen: int, timeout_s: float) -> None:
        """Return when `topic` rang since `seen`, or after `timeout_s`."""
        with self._news:
            self._news.wait_for(lambda: self._rings.get(topic, 0) != seen, timeout_s)
