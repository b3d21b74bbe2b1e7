"""The one database of a history: real SQL in memory, with a clock, faults and a memory of its own.

One connection for all: a work is atomic in virtual time, since nothing within a transaction gives
the turn away. The tables are made once a process and emptied for each history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, create_engine, func
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from tests.simulation.direct import over, stored
from tests.simulation.fates import DURABLE, Fates
from tests.simulation.scheduler import Answer, Scheduler
from webhook_server.stores import schema
from webhook_server.stores.database import Connections, Database, Writes
from webhook_server.stores.engines import LEASE_CLOCK
from webhook_server.stores.json_text import from_json, to_json
from webhook_server.stores.tables import PURGE_BEFORE, Moment, metadata
from webhook_server.stores.writer import DatabaseUnavailable, Joint, R, T, Work

#: What the database itself saw of its rows: one line for each change, at the true time.
_MEMORY = """
CREATE TABLE seen_runs (
  at REAL, id TEXT, version INTEGER, state TEXT, outcome TEXT, booked INTEGER, repository INTEGER,
  attempts INTEGER, reason TEXT
);
CREATE TABLE seen_instances (at REAL, name TEXT, beat INTEGER, closed INTEGER, heard TEXT);
CREATE TABLE seen_kept (at REAL, after INTEGER, kept_by TEXT, booked INTEGER);
CREATE TRIGGER run_made AFTER INSERT ON runs BEGIN
  INSERT INTO seen_runs VALUES (true_time(), new.id, new.version, new.state, new.outcome,
    new.booked_microusd, new.repository_id, json_array_length(new.doc, '$.attempts'), new.reason);
END;
CREATE TRIGGER run_changed AFTER UPDATE OF version, state, outcome, doc ON runs BEGIN
  INSERT INTO seen_runs VALUES (true_time(), new.id, new.version, new.state, new.outcome,
    new.booked_microusd, new.repository_id, json_array_length(new.doc, '$.attempts'), new.reason);
END;
CREATE TRIGGER instance_changed AFTER UPDATE OF heartbeat_seq, heartbeat_at, closed_at
ON instances BEGIN
  INSERT INTO seen_instances VALUES (true_time(), new.name, new.heartbeat_seq,
    new.closed_at IS NOT NULL, new.heartbeat_at);
END;
CREATE TRIGGER kept_made AFTER INSERT ON kept_instances BEGIN
  INSERT INTO seen_kept VALUES (true_time(), (SELECT count(*) FROM seen_runs), new.kept_by,
    new.booked_microusd);
END;
CREATE TRIGGER kept_changed AFTER UPDATE OF booked_microusd ON kept_instances BEGIN
  INSERT INTO seen_kept VALUES (true_time(), (SELECT count(*) FROM seen_runs), new.kept_by,
    new.booked_microusd);
END;
"""
_SEEN = ("seen_runs", "seen_instances", "seen_kept")
_STATEMENTS = 1000  # that the driver keeps prepared: more than we have


class TrueClock:
    """The database's clock: right, whatever the replicas' clocks show."""

    def now(self) -> ColumnElement[datetime]:
        """Return the moment at which a statement is carried out."""
        return func.true_moment(type_=Moment())

    def after(self, duration: timedelta) -> ColumnElement[datetime]:
        """Return the moment so long after that."""
        return func.true_moment_after(duration.total_seconds(), type_=Moment())


class Store:
    """What outlives every crash. `begin` makes it new for a history."""

    def __init__(self, *, direct: bool = True) -> None:
        self.raw = sqlite3.connect(
            ":memory:",
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        self._scheduler = Scheduler("before the first history")
        self._fates: Fates | None = None
        options = {LEASE_CLOCK: TrueClock()}
        engine = create_engine(
            "sqlite://",
            creator=lambda: self.raw,
            poolclass=StaticPool,
            json_serializer=to_json,
            json_deserializer=from_json,
            execution_options=options,
        )
        self._begun = engine.connect()
        schema.migrate(self._begun)
        self._begun.commit()
        # `direct` False: by SQLAlchemy's own connection, which costs five times as much.
        self.connection = over(self.raw, engine.dialect, options) if direct else self._begun
        self.raw.create_function("true_time", 0, lambda: self._scheduler.now)
        self.raw.create_function("true_moment", 0, self._moment)
        self.raw.create_function("true_moment_after", 1, self._moment)
        self.raw.executescript(_MEMORY)
        self._tables = [*(table.name for table in metadata.sorted_tables), *_SEEN]

    def _moment(self, after_s: float = 0.0) -> str:
        # Of this history's scheduler, whichever that is.
        return stored(self._scheduler.moment(after_s))

    def begin(self, scheduler: Scheduler, fates: Fates) -> None:
        """Empty every table; from here on the fates of this history strike."""
        self._scheduler, self._fates = scheduler, fates
        # The trail lets go only of what its purge has named.
        self.raw.execute(f"INSERT INTO server_state VALUES ('{PURGE_BEFORE}', '9999')")
        self.raw.execute("DELETE FROM trail")
        for name in self._tables:
            # As fast as a new one, and keeps what is compiled.
            self.raw.execute(f"DELETE FROM {name}")

    def open(self, now: Callable[[], datetime]) -> Database:
        """Return the database as one replica sees it."""
        reading, writing = _Reads(self), _Writes(self)
        found = Connections(reading=reading, writing=writing, shared=True)
        return Database("sqlite:///one", now=now, connect=lambda _: found)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what is in the database, past all fates."""
        return self.raw.execute(query, values).fetchall()

    # ── what replicas use ──────────────────────────────────────────────────────────────────────

    def read(self) -> Connection:
        """Return a connection for one short read. Raises: OperationalError, when it is locked."""
        self._call("db.read", _nothing, _locked)
        return self.connection  # nothing is begun in the database, and so nothing to be ended

    def write(self, work: Work[T]) -> T:
        """Carry a work out in a transaction. Raises: DatabaseUnavailable."""

        def do() -> T:
            self.raw.execute("BEGIN")
            try:
                answer = work(self.connection)
            except BaseException:
                self._end(commit=False)
                raise
            self._end(commit=True)
            return answer

        name = getattr(work, "__qualname__", "").partition(".<locals>")[0]
        return self._call("db.write", do, _not_taken, name)

    def _call(
        self, kind: str, do: Callable[[], T], fault: Callable[[], Exception], name: str = ""
    ) -> T:
        if self._fates is None:
            return do()
        return self._fates.call(kind, do, refused=fault, lost=fault, name=name, can=DURABLE)

    def _end(self, *, commit: bool) -> None:
        if self.connection is self._begun:  # statements are its own
            self._begun.commit() if commit else self._begun.rollback()
        self.raw.commit() if commit else self.raw.rollback()


class _Reads(AbstractContextManager[Connection]):
    """The database's readers, as `Database` wants them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self) -> AbstractContextManager[Connection]:
        return self

    def __enter__(self) -> Connection:
        return self._store.read()

    def __exit__(self, *_: object) -> None:
        pass


class _Writes(Writes):
    """The database's writer, without a thread: a work is carried out where it is submitted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def submit(self, work: Work[T], *, at_door: bool = False) -> Future[T]:  # noqa: ARG002 - no queue
        answer: Answer[T] = Answer()
        try:
            answer.set_result(self._store.write(work))
        except Exception as error:  # noqa: BLE001 - it goes to who waits for it
            answer.set_exception(error)
        return answer

    def submit_row(self, joint: Joint[R, T], row: R) -> Future[T]:
        def alone(connection: Connection) -> T:
            return joint.work(connection, [row])[0]

        part = joint.work.__module__.rpartition(".")[2]
        alone.__qualname__ = f"{part}.{joint.work.__name__}"  # what a plan names it by
        return self.submit(alone)

    @property
    def waiting(self) -> int:
        return 0

    def close(self) -> None:
        pass


def _nothing() -> None:
    pass


def _locked() -> Exception:
    return OperationalError("", None, sqlite3.OperationalError("database is locked"))


def _not_taken() -> Exception:
    return DatabaseUnavailable("the database did not take it. Try again in a moment.")
