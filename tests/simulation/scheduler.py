"""Run the tasks of many programs in one thread, in virtual time that jumps to what is due next.

Tasks are greenlets, so that the server's blocking code runs unchanged: it gives the turn away where
it calls the outside (`sleep`, `wait`) and nowhere else. Equal seeds give equal turns: the queue is
ordered by time, then by luck, then by age, and nothing reads a real clock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import greenlet

T = TypeVar("T")

#: Virtual second 0: the middle of a month, so that budgets of a month hold for a whole history.
EPOCH = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Crashed(BaseException):
    """The program that this task belongs to is dead: no port answers it any more."""


class Unanswered(Exception):  # noqa: N818 - read as what happened
    """Nobody answered in time: the other side is dead, asleep or slow."""


@dataclass(eq=False)
class Program:
    """Something that lives and dies as a whole: one start of a replica, one boot of a machine."""

    name: str
    alive: bool = True
    asleep_until: float = 0.0
    clock_error: float = 0.0  # seconds that its own clock is ahead
    may_crash: bool = False  # by a fate of one of its own calls
    tasks: dict[Task, None] = field(default_factory=dict)


@dataclass(eq=False)
class Task:
    """One thread of a program."""

    program: Program
    run: greenlet.greenlet
    ticket: int = 0  # of its newest place in the queue: older ones are void
    waits_for: object = None


class Scheduler:
    """Gives turns to tasks, in the order of virtual time."""

    def __init__(self, seed: object) -> None:
        self.now = 0.0
        self.limit = float("inf")
        self.turns = 0
        self.current: Task | None = None
        self.on_crash: Callable[[Program], None] = lambda _: None
        self.faults: list[BaseException] = []  # what tasks of the outside raised: our own mistakes
        self._luck = random.Random(f"{seed}/order").random
        self._queue: list[tuple[float, float, int, Task, int]] = []
        self._number = 0
        self._hub = greenlet.getcurrent()
        self._stopped = False
        self._programs: dict[Program, None] = {}

    # ── time ───────────────────────────────────────────────────────────────────────────────────

    def moment(self, error: float = 0.0) -> datetime:
        """Return the true moment, or what a clock that is so far ahead shows."""
        return EPOCH + timedelta(seconds=self.now + error)

    def sleep(self, seconds: float) -> None:
        """Let so much time pass for the current task. Raises: Crashed."""
        task, program = self._me()
        at, queue = self.now + seconds, self._queue
        if at <= self.limit and (not queue or queue[0][0] > at) and program.asleep_until <= at:
            self.now = at  # nobody else is due before: no need to go round by the queue
            return
        self._put(at, task)
        self._yield(task)

    def wait(self, thing: object, seconds: float) -> None:
        """Wait until somebody wakes whoever waits for `thing`, or so long. Raises: Crashed."""
        task, _ = self._me()
        task.waits_for = thing
        self._put(self.now + seconds, task)
        self._yield(task)
        task.waits_for = None

    def wake(self, task: Task, thing: object) -> None:
        """Give the task its turn now if it waits for this. Safe to repeat."""
        if task.waits_for is thing:
            task.waits_for = None
            self._put(self.now, task)

    def _me(self) -> tuple[Task, Program]:
        task = self.current
        if task is None:
            raise RuntimeError("only a task can let time pass")
        if not task.program.alive:
            raise Crashed
        return task, task.program

    def _yield(self, task: Task) -> None:
        self._hub.switch()
        if not task.program.alive:
            raise Crashed

    def _put(self, at: float, task: Task) -> None:
        task.ticket += 1
        self._number += 1
        entry = (at, self._luck(), self._number, task, task.ticket)
        heapq.heappush(self._queue, entry)

    # ── tasks ──────────────────────────────────────────────────────────────────────────────────

    def spawn(self, program: Program, run: Callable[[], object], after: float = 0.0) -> Task:
        """Let a program do something from `after` seconds from now on."""

        def body() -> None:
            try:
                run()
            except Crashed:
                pass  # nobody is left who could be told
            except Exception as error:  # noqa: BLE001 - shown at the end of the history
                self.faults.append(error)
            finally:
                program.tasks.pop(task, None)

        task = Task(program, greenlet.greenlet(body, parent=self._hub))
        program.tasks[task] = None
        self._programs[program] = None
        self._put(self.now + after, task)
        return task

    def ask(self, program: Program, question: Callable[[], Any], timeout: float) -> Any:
        """Have another program answer the current task. Raises: Unanswered, or what it raises."""
        me, _ = self._me()
        answer: Answer[Any] = Answer()

        def respond() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                answer.set_exception(error)
            self.wake(me, answer)

        if program.alive:
            self.spawn(program, respond)
        self.wait(answer, timeout)
        if not answer.done():
            raise Unanswered(program.name)
        return answer.result()

    def crash(self, program: Program) -> None:
        """Kill a program as kill -9 does; its own task that calls this raises `Crashed` next."""
        if not program.alive:
            return
        program.alive = False
        for task in program.tasks:
            if task is not self.current:
                self._put(self.now, task)  # to be unwound; every port it calls meanwhile raises
        self.on_crash(program)

    def stop(self) -> None:
        """End the history after this turn."""
        self._stopped = True

    def run(self, limit: float) -> None:
        """Give turns until nothing is due before `limit`, or somebody calls `stop`."""
        self.limit = limit
        queue = self._queue
        while queue and queue[0][0] <= limit and not self._stopped:
            at, _, _, task, ticket = heapq.heappop(queue)
            if ticket == task.ticket:
                self._turn(max(at, self.now), task)

    def _turn(self, at: float, task: Task) -> None:
        program = task.program
        self.now = at
        if not program.alive:
            self._end(task)
        elif program.asleep_until > at:
            self._put(program.asleep_until, task)
        else:
            self.turns += 1
            self.current = task
            task.run.switch()
            self.current = None

    def _end(self, task: Task) -> None:
        task.program.tasks.pop(task, None)
        if task.run.gr_frame is not None:  # it began and has not ended
            self.current = task
            task.run.throw(Crashed())
            self.current = None

    def close(self) -> None:
        """Unwind every task that is left, so that nothing of a history meets the next one."""
        for program in list(self._programs):
            program.alive = False
            for task in list(program.tasks):
                self._end(task)


class Answer(Future[T]):
    """A future of one thread: it has no locks, which cost more than all else of it."""

    def __init__(self) -> None:
        self._is_done = False
        self._answer: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], object]] = []

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return not self._is_done

    def done(self) -> bool:
        return self._is_done

    def result(self, timeout: float | None = None) -> T:  # noqa: ARG002 - nobody else could bring it
        assert self._is_done
        if self._error is not None:
            raise self._error
        return cast("T", self._answer)

    def exception(self, timeout: float | None = None) -> BaseException | None:  # noqa: ARG002
        assert self._is_done
        return self._error

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        if self._is_done:
            fn(self)
        else:
            self._callbacks.append(fn)

    def set_result(self, result: T) -> None:
        self._answer = result
        self._end()

    def set_exception(self, exception: BaseException | None) -> None:
        self._error = exception
        self._end()

    def _end(self) -> None:
        self._is_done = True
        for told in self._callbacks:
            told(self)


class Greenlets(Executor):
    """Runs each call in a task of a program; its futures wait in virtual time."""

    def __init__(self, scheduler: Scheduler, program: Program) -> None:
        self._scheduler, self._program = scheduler, program

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = Awaited(self._scheduler)

        def run() -> None:
            try:
                answer = fn(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it goes to who waits for it
                future.set_exception(error)
            else:
                future.set_result(answer)

        self._scheduler.spawn(self._program, run)
        return future


class Awaited(Answer[Any]):
    """An answer whose `result` gives the turn away until it is there."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():
            task = self._scheduler.current
            assert task is not None
            self.add_done_callback(lambda _, task=task: self._scheduler.wake(task, self))
            self._scheduler.wait(self, timeout or 3600.0)
        return super().result()


class VirtualBell:
    """As the server's bell, for loops that wait in virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._rings: dict[str, int] = {}
        self._waiting: dict[str, dict[Task, None]] = {}

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        self._rings[topic] = self._rings.get(topic, 0) + 1
        for task in self._waiting.get(topic, ()):
            self._scheduler.wake(task, topic)

    def count(self, topic: str) -> int:
        """Return how often it rang."""
        return self._rings.get(topic, 0)

    def wait(self, topic: str, seen: int, timeout_s: float) -> None:
        """Return when `topic` rang since `seen`, or after `timeout_s`."""
        if self.count(topic) != seen:
            return
        task = self._scheduler.current
        assert task is not None
        self._waiting.setdefault(topic, {})[task] = None
        try:
            self._scheduler.wait(topic, timeout_s)
        finally:
            self._waiting[topic].pop(task, None)


class VirtualEvent:
    """As `threading.Event` of a server that is told to stop: one that is killed never is."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it."""
        self._set = True

    def wait(self, timeout: float) -> bool:
        """Let the time pass."""
        self._scheduler.sleep(timeout)
        return self._set
