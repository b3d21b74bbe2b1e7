"""Write for every thread at once: one thread, many works a transaction, one durable commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from cynthus.errors import Transient
from webhook_server import metrics
from webhook_server.metrics import METERS, timed

T = TypeVar("T")
Work = Callable[[Connection], T]

BATCH = 256  # beyond this the fsync is no longer what a work costs
TRIES = 5  # of one work that PostgreSQL asks to repeat: more means a fault, not bad luck
# serialization_failure and deadlock_detected, "retry the transaction":
# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
_RETRY_STATES = {"40001", "40P01"}


class DatabaseUnavailable(Transient):
    """The database did not take it; what was asked may be repeated."""


@dataclass(frozen=True)
class _Job:
    work: Work[Any]
    answer: Future[Any]


class _CommitFailed(Exception):  # noqa: N818 - read as what happened
    """Whether the works are stored is unknown."""


class Writer:
    """Commits queued works in their order; an answer is given only after the commit.

    A work may be carried out more than once (its transaction is rolled back in between), so it
    does nothing but use its connection. A work that raises harms no other: the batch is rolled
    back and halved until the guilty one stands alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="database-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> Future[T]:
        """Queue a work; the future has its answer once it is durable."""
        answer: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise DatabaseUnavailable("the server is stopping. Try again in a moment.")
            self._jobs.put(_Job(work, answer))
        return answer

    @property
    def waiting(self) -> int:
        """Return how many works are queued, those of the commit under way aside."""
        return self._jobs.qsize()

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._batch()
            self._carry_out([j for j in batch if j.answer.set_running_or_notify_cancel()])

    def _batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        item = self._jobs.get()
        while item is not None:
            batch.append(item)
            if len(batch) == BATCH:
                return batch, False
            try:
                item = self._jobs.get_nowait()
            except Empty:
                return batch, False
        return batch, True

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
            for job, answer in zip(jobs, answers, strict=True):
                job.answer.set_result(answer)

    def _carry_out_alone(self, job: _Job) -> None:
        for left in reversed(range(TRIES)):
            try:
                job.answer.set_result(self._commit([job])[0])
            except _CommitFailed as error:
                job.answer.set_exception(_translated(error.__cause__))
            except Exception as error:  # noqa: BLE001 - it goes to the caller
                if left and _asks_to_repeat(error):
                    continue
                job.answer.set_exception(_translated(error))
            return

    def _commit(self, jobs: list[_Job]) -> list[Any]:
        with timed(metrics.COMMIT_SECONDS), self._engine.connect() as connection:
            transaction = connection.begin()
            answers = [job.work(connection) for job in jobs]
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                METERS.add(metrics.COMMITS_FAILED)
                raise _CommitFailed from error
        METERS.observe(metrics.COMMIT_WORKS, len(jobs))
        return answers


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
