"""Open connections to SQLite or PostgreSQL the one way that the stores count on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Hashable
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
)

from cynthus.errors import UserError
from webhook_server.stores.tables import Moment

BUSY_TIMEOUT_MS = 5_000  # a backup program may hold the file for moments; nobody else writes
READERS = 8  # two cores' worth of doors and loops; a reader holds one for milliseconds
# A statement that takes longer is stuck; a dead peer must not keep rows locked for ever.
_POSTGRES_OPTIONS = (
    "-c timezone=UTC -c statement_timeout=30000 -c lock_timeout=10000"
    " -c idle_in_transaction_session_timeout=60000"
)

#: The execution option under which an engine names the clock that its leases live by.
LEASE_CLOCK = "cynthus_lease_clock"

# NaN is no JSON: PostgreSQL refuses it, and so does every browser.
_to_json = partial(json.dumps, allow_nan=False, separators=(",", ":"))


class LeaseClock(Hashable, Protocol):
    """A clock of the database's own, which replicas whose clocks differ live by."""

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


def open_engine(url: URL, *, writes: bool) -> Engine:
    """Return an engine for the writer thread, or one for readers."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, writes=writes)
    return create_engine(
        url,
        json_serializer=_to_json,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,  # a failover leaves dead connections in the pool
        pool_size=1 if writes else READERS,
        connect_args={"options": _POSTGRES_OPTIONS},
        execution_options={LEASE_CLOCK: PostgresClock()},
    )


def _sqlite(url: URL, *, writes: bool) -> Engine:
    engine = create_engine(
        url,
        json_serializer=_to_json,
        pool_size=1 if writes else READERS,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )
    event.listen(engine, "connect", partial(_on_connect, writes))
    event.listen(engine, "begin", partial(_on_begin, writes))
    return engine


def _on_connect(writes: bool, connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself:
    # https://docs.sqlalchemy.org/20/dialects/sqlite.html#pysqlite-transactions
    connection.isolation_level = None
    cursor = connection.cursor()
    if writes:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    else:
        cursor.execute("PRAGMA query_only=ON")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_begin(writes: bool, connection: Connection) -> None:
    # A writer that begins by reading could not become a writer later (SQLITE_BUSY_SNAPSHOT).
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class ServerLock:
    """Holds `<database>.lock`, so that one server at a time serves a SQLite file.

    The kernel lets go of it when the process ends, however it ends.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise UserError(
                f"{database}: should be served by one server at a time, found another one"
                f" holding {path.name}. Stop it, or use PostgreSQL for several replicas."
            ) from None

    def release(self) -> None:
        """Let the next server have the file."""
        os.close(self._file)
