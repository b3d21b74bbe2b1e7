"""Bring answers from other threads to the event loop, all that have come in one call."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Landing:
    """What `asyncio.wrap_future` does, for one event loop and many answers at a time.

    A commit answers dozens of requests at once: the loop is woken for all of them once, which
    is a system call and a wait for the interpreter each time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived: list[tuple[asyncio.Future[Any], Future[Any]]] = []

    def wait_for(self, answer: Future[T]) -> asyncio.Future[T]:
        """Return what to await; to give it up does not stop the work, which may have begun."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()

        def arrive(done: Future[T]) -> None:
            with self._lock:
                self._arrived.append((waiter, done))
                is_first = len(self._arrived) == 1
            if is_first and not loop.is_closed():
                loop.call_soon_threadsafe(self._land)

        answer.add_done_callback(arrive)
        return waiter

    def _land(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for waiter, done in arrived:
            if waiter.done():  # given up meanwhile
                continue
            if done.cancelled():
                waiter.cancel()
                continue
            error = done.exception()
            if error is None:
                waiter.set_result(done.result())
            else:
                waiter.set_exception(error)
