"""Remember what was read, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from webhook_server.providers.provider import ProviderUnavailable

T = TypeVar("T")


class Kept(Generic[T]):
    """Something that is read again when it is old; the old one serves while that fails."""

    def __init__(self, read: Callable[[], T], keep_s: float, clock: Callable[[], float]) -> None:
        self._read, self._keep_s, self._clock = read, keep_s, clock
        self._lock = threading.Lock()
        self._held: tuple[T, float] | None = None

    def get(self) -> T:
        """Return it; of several threads one reads and the others wait for what it gets.

        Raises: ProviderUnavailable, Misconfigured while there is none at all.
        """
        with self._lock:
            if self._held is None or self._clock() - self._held[1] >= self._keep_s:
                self._renew()
            if self._held is None:
                raise ProviderUnavailable("nothing could be read")
            return self._held[0]

    def _renew(self) -> None:
        try:
            self._held = (self._read(), self._clock())
        except ProviderUnavailable:
            if self._held is None:
                raise
