"""Write for every thread at once: one thread, many works a transaction, one durable commit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from cynthus.errors import Transient
from webhook_server import metrics
from webhook_server.metrics import METERS, timed

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[Connection], T]

BATCH = 256  # beyond this the fsync is no longer what a work costs
# Works of loops in a commit that somebody at a door waits for. A pass writes for 1 to 2 ms: four
# of them are what a door may wait for; with none, a door that is always busy would starve them.
BESIDE_DOORS = 4
CLOSE_S = 2.0  # a full queue takes less; more, and a server that is told to stop would be killed
# For as long a connection is believed to live without being asked: a restarted PostgreSQL costs
# one try in this time.
HELD_S = 1.0
TRIES = 5  # of one work that PostgreSQL asks to repeat: more means a fault, not bad luck
# serialization_failure and deadlock_detected, "retry the transaction":
# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
_RETRY_STATES = {"40001", "40P01"}


class DatabaseUnavailable(Transient):
    """The database did not take it; what was asked may be repeated."""


@dataclass(frozen=True, eq=False)  # each is itself: works are put together by identity
class Joint(Generic[R, T]):
    """A work that many ask for at once: carried out for the rows of all of them together.

    `work` answers each row, in their order. `patience_s`: how long rows may wait for more to
    share their commit with; it is never waited for when anything else is to be written.
    """

    work: Callable[[Connection, Sequence[R]], Sequence[T]]
    at_door: bool  # somebody outside waits for it
    patience_s: float = 0.0


@dataclass(frozen=True, eq=False)
class _Job:
    joint: Joint[Any, Any]
    row: Any
    answer: Future[Any]
    go_at_s: float  # by the monotonic clock: when patience ends


class _CommitFailed(Exception):  # noqa: N818 - read as what happened
    """Whether the works are stored is unknown."""


class Writer:
    """Commits queued works in their order, doors' before loops'; answers only after the commit.

    A work may be carried out more than once (its transaction is rolled back in between), so it
    does nothing but use its connection. A work that raises harms no other: the batch is rolled
    back and halved until the guilty one stands alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._held = _Held(engine)
        self._arrivals = _Arrivals()
        self._line = _Line()
        self._thread = threading.Thread(target=self._serve, name="database-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], *, at_door: bool = False) -> Future[T]:
        """Queue a work; the future has its answer once it is durable.

        `at_door`: somebody outside waits for it. Raises: DatabaseUnavailable.
        """
        alone: Joint[None, T] = Joint(lambda connection, _: [work(connection)], at_door)
        return self._put(alone, None)

    def submit_row(self, joint: Joint[R, T], row: R) -> Future[T]:
        """Queue a row of a joint work. Raises: DatabaseUnavailable."""
        return self._put(joint, row)

    def _put(self, joint: Joint[R, T], row: R) -> Future[T]:
        answer: Future[T] = Future()
        self._arrivals.put(_Job(joint, row, answer, time.monotonic() + joint.patience_s))
        return answer

    @property
    def waiting(self) -> int:
        """Return how many works are queued, those of the commit under way aside."""
        return self._arrivals.length + self._line.length

    def close(self) -> None:
        """Finish what is queued, then end the thread; a database that is silent is left to it."""
        self._arrivals.close()
        self._thread.join(CLOSE_S)

    def _serve(self) -> None:
        line, more = self._line, True
        while more or line.length:
            more = more and self._take_in(line)
            batch = line.next_batch()
            self._carry_out([j for j in batch if j.answer.set_running_or_notify_cancel()])
        self._held.let_go()

    def _take_in(self, line: _Line) -> bool:
        """Take in what was queued, wait where there is reason to; False: nothing will follow."""
        while True:
            arrived, more = self._arrivals.take()
            for job in arrived:
                line.add(job)
            if not more:
                return False
            now_s = time.monotonic()
            if line.go_at_s is not None and (line.go_at_s <= now_s or line.length >= BATCH):
                return True
            self._arrivals.wait(line.go_at_s, now_s, room=BATCH - line.length)

    def _carry_out(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        if len(jobs) == 1:
            self._carry_out_alone(jobs[0])
            return
        try:
            answers = self._commit(jobs)
        except _CommitFailed as error:
            for job in jobs:
                job.answer.set_exception(_translated(error.__cause__))
        except Exception:  # noqa: BLE001 - whose fault it was is found by halving
            self._carry_out(jobs[: len(jobs) // 2])
            self._carry_out(jobs[len(jobs) // 2 :])
        else:
            for job, answer in answers:
                job.answer.set_result(answer)

    def _carry_out_alone(self, job: _Job) -> None:
        for left in reversed(range(TRIES)):
            try:
                ((_, answer),) = self._commit([job])
                job.answer.set_result(answer)
            except _CommitFailed as error:
                job.answer.set_exception(_translated(error.__cause__))
            except Exception as error:  # noqa: BLE001 - it goes to the caller
                if left and _asks_to_repeat(error):
                    continue
                job.answer.set_exception(_translated(error))
            return

    def _commit(self, jobs: list[_Job]) -> list[tuple[_Job, Any]]:
        with timed(metrics.COMMIT_SECONDS), self._held.begun() as transaction:
            answers = _answers(transaction.connection, jobs)
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                METERS.add(metrics.COMMITS_FAILED)
                raise _CommitFailed from error
        METERS.observe(metrics.COMMIT_WORKS, len(jobs))
        return answers


class _Held:
    """The writer's connection, kept from one transaction to the next.

    Taking it from its pool and giving it back costs as much as two statements, and on PostgreSQL a
    question whether it still lives. After a fault it is another one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._until_s = 0.0  # by the monotonic clock

    @contextmanager
    def begun(self) -> Iterator[RootTransaction]:
        """Give a transaction of a connection that lives, as far as is known."""
        if self._connection is not None and time.monotonic() > self._until_s:
            self.let_go()
        if self._connection is None:
            self._connection = self._engine.connect()
            self._until_s = time.monotonic() + HELD_S
        try:
            yield self._connection.begin()
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Give it back to its pool, which looks after it. Safe to repeat."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Arrivals:
    """What was queued and is not taken in yet; the writer is woken no oftener than it must be.

    Each wake is a hand-over of the interpreter, for which a door waits: a row that can wait does
    not wake a writer that will look in time by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: list[_Job] = []
        self._closed = False
        self._looks_at_s: float | None = None  # by the monotonic clock; None: when it is woken
        self._room = BATCH  # of the commit that is waited for
        self._asleep = threading.Lock()  # held: nobody has woken the writer since it slept
        self._asleep.acquire()

    @property
    def length(self) -> int:
        return len(self._jobs)

    def put(self, job: _Job) -> None:
        """Queue a job. Raises: DatabaseUnavailable."""
        with self._lock:
            if self._closed:
                raise DatabaseUnavailable("the server is stopping. Try again in a moment.")
            self._jobs.append(job)
            looks_at_s, full = self._looks_at_s, len(self._jobs) >= self._room
            if looks_at_s is None or full or job.go_at_s < looks_at_s:
                self._wake()

    def close(self) -> None:
        """Let nothing further be queued."""
        with self._lock:
            self._closed = True
            self._wake()

    def take(self) -> tuple[list[_Job], bool]:
        """Return what was queued, and whether anything may follow."""
        with self._lock:
            jobs, self._jobs = self._jobs, []
            return jobs, not self._closed

    def wait(self, until_s: float | None, now_s: float, *, room: int) -> None:
        """Sleep until that moment, until `room` works came, or until one that cannot wait did."""
        with self._lock:
            if self._jobs or self._closed:
                return
            self._looks_at_s, self._room = until_s, room
            self._asleep.acquire(blocking=False)  # a wake from before has been heeded
        self._asleep.acquire(timeout=-1 if until_s is None else until_s - now_s)
        with self._lock:
            self._looks_at_s = None

    def _wake(self) -> None:
        if self._asleep.locked():
            self._asleep.release()


class _Line:
    """What waits for its commit, in two lanes; the writer's thread alone changes it."""

    def __init__(self) -> None:
        self._doors: deque[_Job] = deque()
        self._loops: deque[_Job] = deque()
        self.go_at_s: float | None = None  # by the monotonic clock: when patience ends

    @property
    def length(self) -> int:
        return len(self._doors) + len(self._loops)

    def add(self, job: _Job) -> None:
        self.go_at_s = job.go_at_s if self.go_at_s is None else min(self.go_at_s, job.go_at_s)
        (self._doors if job.joint.at_door else self._loops).append(job)

    def next_batch(self) -> list[_Job]:
        """Take the next commit's works: the doors' first, and always some of the loops'."""
        doors = _taken(self._doors, BATCH)
        loops = _taken(self._loops, BESIDE_DOORS if doors else BATCH)
        if not self.length:
            self.go_at_s = None
        return doors + loops


def _taken(lane: deque[_Job], limit: int) -> list[_Job]:
    return [lane.popleft() for _ in range(min(limit, len(lane)))]


def _answers(connection: Connection, jobs: Sequence[_Job]) -> list[tuple[_Job, Any]]:
    """Carry works out in their order; a joint one for all its rows where the first stands."""
    groups: dict[Joint[Any, Any], list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.joint, []).append(job)
    return [
        pair
        for joint, group in groups.items()
        for pair in zip(group, joint.work(connection, [job.row for job in group]), strict=True)
    ]


def _asks_to_repeat(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and (
        getattr(error.orig, "sqlstate", None) in _RETRY_STATES or error.connection_invalidated
    )


def _translated(error: BaseException | None) -> BaseException:
    """Turn the driver's "not now" into ours; anything else is a fault and stays what it is."""
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        unavailable = DatabaseUnavailable("the database did not take it. Try again in a moment.")
        unavailable.__cause__ = error
        return unavailable
    return error or DatabaseUnavailable("the database did not take it. Try again in a moment.")
