"""Tell how far one dataset is, not too often, with the time it will still take."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from cynthus.wire_data import StagingView

TELL_S = 2.0  # between two views of one dataset, unless its state changes
WINDOW_S = 30.0  # the rate is that of the last half minute: hubs are fast and slow by turns
ETA_AFTER_S = 3.0  # before it a rate is chance


class Progress:
    """How far one dataset is; its verbs may be called by any thread."""

    def __init__(
        self,
        name: str,
        total_bytes: int | None,
        *,
        clock: Callable[[], float],
        tell: Callable[[StagingView], None],
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._view = StagingView(name=name, state="", done_bytes=0, total_bytes=total_bytes)
        self._told_at = float("-inf")
        self._seen: deque[tuple[float, int]] = deque()
        self.moved_bytes = 0  # over the network, from wherever

    @property
    def due(self) -> bool:
        """Say whether the next word would be passed on: to count bytes has its price."""
        return self._clock() - self._told_at >= TELL_S

    def enter(
        self, state: str, *, total_bytes: int | None = None, files: int = 0, origin: str = ""
    ) -> None:
        """Begin a state; its bytes count from nothing. It is told at once."""
        with self._lock:
            before = self._view
            self._view = StagingView(
                name=before.name,
                state=state,
                done_bytes=0,
                total_bytes=before.total_bytes if total_bytes is None else total_bytes,
                files=files or before.files,
                origin=origin or before.origin,
            )
            self._seen.clear()
            if before.state != state:
                self._told_at = float("-inf")
        self.reach(0)

    def reach(self, done_bytes: int) -> None:
        """Say how many bytes of this state are done."""
        with self._lock:
            now = self._clock()
            self._seen.append((now, done_bytes))
            while now - self._seen[0][0] > WINDOW_S and len(self._seen) > 2:  # noqa: PLR2004 - two make a rate
                self._seen.popleft()
            self._view = replace(self._view, done_bytes=done_bytes, eta_s=self._eta_s(done_bytes))
            if now - self._told_at < TELL_S:
                return
            self._told_at, view = now, self._view
        self._tell(view)

    def add(self, more_bytes: int) -> None:
        """Say that so many more bytes are done."""
        self.reach(self._view.done_bytes + more_bytes)

    def end(self, *, total_bytes: int, files: int, origin: str) -> None:
        """Tell that all of it is there."""
        view = self._view
        self._tell(
            StagingView(
                name=view.name,
                state="ready",
                done_bytes=total_bytes,
                total_bytes=total_bytes,
                files=files,
                origin=origin,
            )
        )

    def _eta_s(self, done_bytes: int) -> float | None:
        (began, first), total = self._seen[0], self._view.total_bytes
        took = self._clock() - began
        if total is None or took < ETA_AFTER_S or done_bytes <= first:
            return None
        return round(max(0, total - done_bytes) * took / (done_bytes - first), 1)
