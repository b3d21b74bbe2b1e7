"""A few threads: for many things that are all needed, or for jobs that hold memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Job = Callable[[], None]
T = TypeVar("T")


class Threads:
    """Jobs for several threads, which start with the first job and end with `finish`."""

    def __init__(self, count: int, room_bytes: int) -> None:
        self._count, self._room_bytes = count, room_bytes
        self._jobs: queue.SimpleQueue[tuple[int, Job] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._room = threading.Condition()
        self._held_bytes = 0
        self._fault: BaseException | None = None

    def submit(self, size_bytes: int, job: Job) -> None:
        """Have it done; waits while what is held by other jobs leaves no room for its bytes."""
        with self._room:
            # One that is larger than all the room goes alone.
            self._room.wait_for(
                lambda: not self._held_bytes or self._held_bytes + size_bytes <= self._room_bytes
            )
            self._held_bytes += size_bytes
        self._jobs.put((size_bytes, job))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name="upload", daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Wait for all jobs; raises what the first of them raised that failed."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._fault is not None:
            raise self._fault

    def _work(self) -> None:
        while (found := self._jobs.get()) is not None:
            size_bytes, job = found
            try:
                job()
            except Exception as error:  # noqa: BLE001 - raised by `finish`
                self._fault = self._fault or error
            del job, found  # what it holds in memory goes before the next one is waited for
            with self._room:
                self._held_bytes -= size_bytes
                self._room.notify_all()


def together(work: Callable[[T], None], items: Iterable[T], *, at_once: int) -> None:
    """Call `work` with each item in `at_once` threads; the first failure ends all and is raised.

    What is under way then is waited for.
    """
    left: Iterator[T] = iter(items)
    lock, failures = threading.Lock(), list[BaseException]()

    def turn() -> None:
        while not failures:
            with lock:
                item = next(left, _END)
            if isinstance(item, _End):
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)

    threads = [threading.Thread(target=turn, daemon=True) for _ in range(at_once - 1)]
    for thread in threads:
        thread.start()
    turn()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _End:
    """There is no item left."""


_END = _End()
