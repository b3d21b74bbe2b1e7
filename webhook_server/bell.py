"""Wake the server's own loops when there is news, so that nothing on the happy path is polled."""

from __future__ import annotations

import threading

MOST_TOPICS = 10_000  # each run has one: those of runs that ended long ago are forgotten


class Bell:
    """Counts rings by topic; a loop waits for a ring that came after its last look.

    A hint and never the truth: a lost ring costs the loop's ordinary wait, nothing else.
    Topics: "runs", "deliveries", "publications", "events/<run id>".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0
        # By topic the number of its newest ring, the oldest first: numbers never come again, so
        # that a topic which was forgotten looks rung to whoever counted it before.
        self._rings: dict[str, int] = {}
        # One a topic that is waited for, with how many wait: a thousand heartbeats a second must
        # not wake the loops that wait for something else.
        self._waiting: dict[str, tuple[threading.Condition, int]] = {}

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        with self._lock:
            self._total += 1
            self._rings.pop(topic, None)
            self._rings[topic] = self._total
            if len(self._rings) > MOST_TOPICS:
                del self._rings[next(iter(self._rings))]
            if topic in self._waiting:
                self._waiting[topic][0].notify_all()

    def count(self, topic: str) -> int:
        """Return a number that changes when it rings: take it before looking, give it to `wait`."""
        with self._lock:
            return self._rings.get(topic, 0)

    def wait(self, topic: str, seen: int, timeout_s: float) -> None:
        """Return when `topic` rang since `seen`, or after `timeout_s`."""
        with self._lock:
            news, waiters = self._waiting.get(topic) or (threading.Condition(self._lock), 0)
            self._waiting[topic] = (news, waiters + 1)
            try:
                news.wait_for(lambda: self._rings.get(topic, 0) != seen, timeout_s)
            finally:
                self._leave(topic)

    def _leave(self, topic: str) -> None:
        news, waiters = self._waiting.pop(topic)
        if waiters > 1:
            self._waiting[topic] = (news, waiters - 1)
