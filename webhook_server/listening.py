"""Say since when this server has listened without a gap: silence before that is nobody's fault.

A system clock may be set while the server runs, and a machine may sleep. Either way hours pass
between two heartbeats of which nothing else on this machine knows, and every live run would be
given up at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

log = logging.getLogger(__name__)

#: More than a clock is ever slewed, or a replica's set to its database's, between two looks; less
#: than any limit of silence.
JUMP = timedelta(seconds=10)


class Listening:
    """Knows since when heartbeats could be heard; `elapsed_s` only ever goes on, while awake."""

    def __init__(self, now: Callable[[], datetime], elapsed_s: Callable[[], float]) -> None:
        self._now, self._elapsed_s = now, elapsed_s
        self._lock = threading.Lock()
        self._since = now()
        self._looked = (self._since, elapsed_s())

    def since(self) -> datetime:
        """Return when this server began to listen, or its clock last jumped. Safe to repeat."""
        with self._lock:
            now, elapsed_s = self._now(), self._elapsed_s()
            before, before_s = self._looked
            jumped = now - before - timedelta(seconds=elapsed_s - before_s)
            self._looked = (now, elapsed_s)
            if abs(jumped) > JUMP:
                log.warning("clock jumped seconds=%d", jumped.total_seconds())
                self._since = now
            return self._since
