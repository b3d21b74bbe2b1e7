"""A few threads that do jobs in their order, no more of them waiting than memory allows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]


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
