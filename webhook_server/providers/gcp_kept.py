"""Remember what was read, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from webhook_server.providers.provider import ProviderUnavailable

T = TypeVar("T")

#: After a read that failed. Each may take half a minute, and whoever asks meanwhile waits in line:
#: without a pause the last of many callers would wait for as many reads.
PAUSE_S = 5.0


class Kept(Generic[T]):
    """Something that is read again when it is old; the old one serves while that fails."""

    def __init__(self, read: Callable[[], T], keep_s: float, clock: Callable[[], float]) -> None:
        self._read, self._keep_s, self._clock = read, keep_s, clock
        self._lock = threading.Lock()
        self._held: tuple[T, float] | None = None
        self._failed: tuple[ProviderUnavailable, float] | None = None

    def get(self) -> T:
        """Return it; of several threads one reads and the others wait for what it gets.

        Raises: ProviderUnavailable while there is none at all; whatever else the reading raises.
        """
        with self._lock:
            if self._is_old() and not self._pauses():
                self._renew()
            if self._held is not None:
                return self._held[0]
            assert self._failed is not None  # noqa: S101 - there is either, after a reading
            raise ProviderUnavailable(str(self._failed[0])) from self._failed[0]

    def _is_old(self) -> bool:
        return self._held is None or self._clock() - self._held[1] >= self._keep_s

    def _pauses(self) -> bool:
        return self._failed is not None and self._clock() - self._failed[1] < PAUSE_S

    def _renew(self) -> None:
        try:
            self._held, self._failed = (self._read(), self._clock()), None
        except ProviderUnavailable as error:
            self._failed = (error, self._clock())
