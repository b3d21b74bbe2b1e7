"""Does to the played machines what was decided: one thing at a time for each, in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from simulators.gcp_machines import Machines, NoMachines

_LOG = logging.getLogger(__name__)
Task = tuple[Callable[[], Any], Callable[[Any], None] | None]


class Hands:
    """Carries out machine verbs outside the world's lock, since to boot one takes a while.

    With `NoMachines` everything happens at once, in the caller: nothing there takes time.
    """

    def __init__(self, machines: Machines, lock: threading.RLock) -> None:
        self.machines = machines
        self._lock = lock
        self._at_once = isinstance(machines, NoMachines)
        self._queues: dict[str, queue.SimpleQueue[Task | None]] = {}

    def do(
        self, name: str, task: Callable[[], Any], then: Callable[[Any], None] | None = None
    ) -> None:
        """Carry out a task on a machine after all earlier ones; `then` gets what it returned.

        Call it with the lock held; `then` is called with the lock held.
        """
        if self._at_once:
            self._carry_out((task, then))
            return
        waiting = self._queues.get(name)
        if waiting is None:
            waiting = self._queues[name] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(waiting,), name=name, daemon=True).start()
        waiting.put((task, then))

    def forget(self, name: str) -> None:
        """Let the machine's thread end once it has done what waits."""
        waiting = self._queues.pop(name, None)
        if waiting is not None:
            waiting.put(None)

    def _work(self, waiting: queue.SimpleQueue[Task | None]) -> None:
        while (task := waiting.get()) is not None:
            self._carry_out(task)

    def _carry_out(self, task: Task) -> None:
        todo, then = task
        try:
            result = todo()
        except Exception:  # noqa: BLE001 - whatever it is, it is logged with its trace
            # A machine that cannot be played is the simulator's trouble, and must be seen; the
            # others go on.
            _LOG.exception("a machine could not do what it was told")
            return
        if then is not None:
            with self._lock:
                then(result)
