"""Keep one client for each registry of a job, with the login that belongs to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from action.registry.client import Registry
from action.registry.door import Wait
from action.registry.tokens import Credentials


class RegistryPool:
    """The registries that a job talks to; safe to share between threads."""

    def __init__(
        self, login: Callable[[str], Credentials | None], *, wait: Wait = time.sleep
    ) -> None:
        self._login, self._wait = login, wait
        self._lock = threading.Lock()
        self._kept: dict[str, Registry] = {}

    def __call__(self, host: str) -> Registry:
        """Return the client of one registry, made when it is asked for first."""
        with self._lock:
            if host not in self._kept:
                self._kept[host] = Registry(host, self._login(host), wait=self._wait)
            return self._kept[host]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for registry in self._kept.values():
            registry.__exit__(kind, error, trace)
