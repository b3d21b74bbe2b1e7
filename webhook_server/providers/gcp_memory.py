"""Remember in which zone an instance is, and whether a list has shown it; for all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

HIDDEN_FOR_S = 60.0  # so long may an instance be missing from the lists after its insert is done
FORGET_AFTER_S = 3600.0  # longer than any instance is asked for after it has gone


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is remembered of a name."""

    zone: str
    seen: bool  # a list has shown it; never taken back
    hidden_until: float
    used_at: float


class Memory:
    """What is known of names; losing all of it costs questions, no knowledge."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # monotonic seconds
        self._known: dict[str, Known] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Known | None:
        """Return what is known of a name."""
        return self._known.get(name)

    def remember(self, name: str, zone: str, *, seen: bool) -> Known:
        """Add what was learned of a name; that it was seen once stays."""
        now = self._clock()
        with self._lock:  # between reading and writing another thread may have seen it
            old = self._known.get(name)
            known = Known(
                zone=zone,
                seen=seen or (old is not None and old.seen),
                hidden_until=old.hidden_until if old else now + HIDDEN_FOR_S,
                used_at=now,
            )
            self._known[name] = known
        return known

    def may_be_hidden(self, known: Known | None) -> bool:
        """Say whether it may exist although no list shows it: seen once and away is gone."""
        return known is not None and not known.seen and self._clock() < known.hidden_until

    def forget_all_but(self, listed: AbstractSet[str]) -> None:
        """Keep the memory as small as the fleet."""
        before = self._clock() - FORGET_AFTER_S
        with self._lock:
            for name, known in tuple(self._known.items()):
                if name not in listed and known.used_at < before:
                    del self._known[name]
