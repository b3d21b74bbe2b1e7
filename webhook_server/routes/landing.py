"""Bring answers from other threads to the event loop, all that have come in one call."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Landing:
    """What `asyncio.wrap_future` does, for one event loop and many answers at a time.

    A commit answers dozens of requests at once: the loop is woken for all of them once, which
    is a system call and a wait for the interpreter each time. So is a limit: `asyncio.timeout`
    makes and takes back a timer for each request, here one looks after all of them.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        # In the order of their ends, since all have the same limit; at the event loop alone.
        self._limited: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: list[tuple[asyncio.Future[Any], Future[Any]]] = []

    def wait_for(self, answer: Future[T]) -> asyncio.Future[T]:
        """Return what to await; to give it up does not stop the work, which may have begun.

        Awaiting it raises TimeoutError after `limit_s`: that is the same as giving it up.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        if self._limit_s is not None:
            self._limit(loop, waiter, loop.time() + self._limit_s)

        def arrive(done: Future[T]) -> None:
            with self._lock:
                self._arrived.append((waiter, done))
                is_first = len(self._arrived) == 1
            if is_first and not loop.is_closed():
                loop.call_soon_threadsafe(self._land)

        answer.add_done_callback(arrive)
        return waiter

    def _limit(
        self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[Any], ends_at: float
    ) -> None:
        limited = self._limited
        while limited and limited[0][1].done():
            limited.popleft()
        limited.append((ends_at, waiter))
        if self._timer is None:
            self._timer = loop.call_at(ends_at, self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the waits that have lasted too long, and look again when the next one will have."""
        self._timer, now = None, loop.time()
        limited = self._limited
        while limited and (limited[0][1].done() or limited[0][0] <= now):
            waiter = limited.popleft()[1]
            if not waiter.done():
                waiter.set_exception(TimeoutError())
        if limited:
            self._timer = loop.call_at(limited[0][0], self._end, loop)

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
