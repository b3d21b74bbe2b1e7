"""Open connections to SQLite or PostgreSQL the one way that the stores count on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Interval,
    create_engine,
    event,
    func,
    literal,
    text,
)

from cynthus.errors import UserError
from webhook_server.stores.json_text import from_json, to_json
from webhook_server.stores.many_rows import PREPARED
from webhook_server.stores.sqlite_dialect import url_of
from webhook_server.stores.tables import Moment

BUSY_TIMEOUT_MS = 5_000  # a backup program may hold the file for moments; nobody else writes
_PREPARED_OF_A_READER = 128  # as the driver has it
READERS = 8  # two cores' worth of doors and loops; a reader holds one for milliseconds
# A statement that takes longer is stuck. A replica that is paused in a transaction, or whose
# machine is gone, must not keep locks for long: nothing of ours waits for anybody in one, and what
# it was doing is done again. That ends before those give up who wait for the lock.
_POSTGRES_OPTIONS = (
    "-c timezone=UTC -c statement_timeout=15000 -c lock_timeout=10000"
    " -c idle_in_transaction_session_timeout=5000"
)
# PostgreSQL ends a statement by itself before this; what is still silent then is gone, or the way
# to it is. Without a limit of ours a thread would wait for ever: TCP asks after two hours.
ANSWER_LIMIT_S = 20.0
CONNECT_LIMIT_S = 10  # whole seconds: https://www.postgresql.org/docs/current/libpq-connect.html

#: The execution option under which an engine names the clock that its leases live by.
LEASE_CLOCK = "cynthus_lease_clock"


class LeaseClock(Hashable, Protocol):
    """A clock of the database's own, which replicas whose clocks differ live by.

    Statements are built once a clock: both are expressions, and no moment is in them.
    """

    def now(self) -> ColumnElement[datetime]:
        """Return the moment at which a statement is carried out."""

    def after(self, duration: timedelta) -> ColumnElement[datetime]:
        """Return the moment so long after that."""


class PostgresClock:
    """PostgreSQL's clock: https://www.postgresql.org/docs/current/functions-datetime.html."""

    def now(self) -> ColumnElement[datetime]:
        """Return the moment at which a statement is carried out."""
        return func.clock_timestamp(type_=Moment())

    def after(self, duration: timedelta) -> ColumnElement[datetime]:
        """Return the moment so long after that."""
        return self.now() + literal(duration, Interval())


_POSTGRES_CLOCK = PostgresClock()  # one: statements are built once a clock


def open_engine(url: URL, *, writes: bool, answer_limit_s: float = ANSWER_LIMIT_S) -> Engine:
    """Return an engine for the writer thread, or one for readers.

    PostgreSQL has `answer_limit_s` seconds for each answer; then the connection is closed, and the
    asker gets an error as if it had been cut.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, writes=writes)
    engine = create_engine(
        url,
        json_serializer=to_json,
        json_deserializer=from_json,
        # A read is of one state, as on SQLite; a write sees rows as they are once it has them.
        isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        pool_pre_ping=True,  # a failover leaves dead connections in the pool
        pool_size=1 if writes else READERS,
        execution_options={LEASE_CLOCK: _POSTGRES_CLOCK},
        connect_args={
            "options": _POSTGRES_OPTIONS,
            "connect_timeout": max(1, min(CONNECT_LIMIT_S, int(answer_limit_s))),
        },
    )
    event.listen(engine, "do_connect", partial(_connect, answer_limit_s))
    return engine


def _connect(
    answer_limit_s: float, _dialect: object, _record: object, words: Any, options: Any
) -> object:
    from webhook_server.stores.limited_connection import LimitedConnection  # only for PostgreSQL

    connection = LimitedConnection.connect(*words, **options)
    connection.answer_limit_s = answer_limit_s
    return connection


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Lift every limit from a transaction of PostgreSQL's: a migration may take its time."""
    if connection.dialect.name != "postgresql":
        yield
        return
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = 0"))
    driver: Any = connection.connection.driver_connection
    usual, driver.answer_limit_s = driver.answer_limit_s, None
    try:
        yield
    finally:
        driver.answer_limit_s = usual


def _sqlite(url: URL, *, writes: bool) -> Engine:
    engine = create_engine(
        url_of(url, writes=writes),
        json_serializer=to_json,
        json_deserializer=from_json,
        pool_size=1 if writes else READERS,
        connect_args={
            "check_same_thread": False,
            "timeout": BUSY_TIMEOUT_MS / 1000,
            "cached_statements": PREPARED if writes else _PREPARED_OF_A_READER,
        },
    )
    event.listen(engine, "connect", partial(_on_connect, writes))
    return engine


def _on_connect(writes: bool, connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself:
    # https://docs.sqlalchemy.org/20/dialects/sqlite.html#pysqlite-transactions
    connection.isolation_level = None
    cursor = connection.cursor()
    if writes:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
        # Some distributions' SQLite writes zeros over each page that is freed, which doubles what a
        # handled delivery costs; nothing secret lies here in the clear. FAST does so only where it
        # costs no further write: https://www.sqlite.org/pragma.html#pragma_secure_delete
        cursor.execute("PRAGMA secure_delete=FAST")
    else:
        cursor.execute("PRAGMA query_only=ON")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


class ServerLock:
    """Holds `<database>.lock`, so that one server at a time serves a SQLite file.

    The kernel lets go of it when the process ends, however it ends.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(database, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise UserError(
                f"{database}: should be served by one server at a time, found another one"
                f" holding {path.name}. Stop it, or use PostgreSQL for several replicas."
            ) from None
        except OSError as error:  # some network file systems have no locks
            os.close(self._file)
            raise _unusable(database, error) from error

    def release(self) -> None:
        """Let the next server have the file."""
        os.close(self._file)


def _unusable(database: Path, error: OSError) -> UserError:
    return UserError(
        f"{database}: should lie where this server may write files and lock them, found:"
        f" {error.strerror}. Choose a folder of its own on a local disk, or use PostgreSQL."
    )
