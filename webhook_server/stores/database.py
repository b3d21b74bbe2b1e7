"""The one database of a server: short reads from any thread, writes through one writer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    bindparam,
    delete,
    literal,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from cynthus.errors import UserError
from webhook_server.stores import schema
from webhook_server.stores.engines import LEASE_CLOCK, LeaseClock, ServerLock, open_engine
from webhook_server.stores.tables import Moment, deliveries, publications, runs, server_state
from webhook_server.stores.writer import DatabaseUnavailable, T, Work, Writer

CONTROL_PLANE = "control_plane"  # server_state: the id that everything we rent carries


class Reads(Protocol):
    """Gives connections for short reads; SQLAlchemy's engine is one."""

    def begin(self) -> AbstractContextManager[Connection]:
        """Return a connection within a transaction that ends with the block."""


class Writes(Protocol):
    """Carries out works, each durable before its answer is given; `Writer` is one."""

    def submit(self, work: Work[T]) -> Future[T]:
        """Queue a work; the future has its answer once it is durable."""

    def close(self) -> None:
        """Finish what is queued. Safe to repeat."""


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What a database is reached through."""

    reading: Reads
    writing: Writes
    shared: bool  # other servers may use the same database at the same time
    engines: tuple[Engine, ...] = ()  # what is let go of at the end
    lock: ServerLock | None = None  # the right to be the only server of a SQLite file


def connect(url: str) -> Connections:
    """Return the connections to a database. Raises: UserError, if the URL names none of ours."""
    address = make_url(url)
    _check(address.drivername, address.database)
    lock = _server_lock(address.database) if _is_sqlite(address.drivername) else None
    reading, writing = (open_engine(address, writes=writes) for writes in (False, True))
    return Connections(
        reading=reading,
        writing=Writer(writing),
        shared=lock is None,
        engines=(reading, writing),
        lock=lock,
    )


def _check(driver: str, database: str | None) -> None:
    if driver not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise UserError(
            f"CYNTHUS_DATABASE_URL: should begin with sqlite:/// or postgresql+psycopg://,"
            f" found {driver}. Write for example sqlite:///cynthus.db."
        )
    if _is_sqlite(driver) and database in {None, "", ":memory:"}:
        raise UserError(
            "CYNTHUS_DATABASE_URL: should name a file, found SQLite in memory."
            " Write for example sqlite:///cynthus.db."
        )


class Database:
    """Holds the connections. On SQLite also the right to be the only server of the file."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], datetime],
        connect: Callable[[str], Connections] = connect,
    ) -> None:
        self.now = now
        found = connect(url)
        self._reading, self._writer, self._lock = found.reading, found.writing, found.lock
        self._engines = found.engines
        self.may_be_shared = found.shared

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection for one short read of one consistent state; it cannot write.

        Raises: DatabaseUnavailable.
        """
        try:
            with self._reading.begin() as connection:
                yield connection
        except OperationalError as error:
            raise DatabaseUnavailable("the database does not answer. Try again.") from error

    def write(self, work: Work[T]) -> T:
        """Carry out `work` in a transaction and return its answer once it is durable.

        `work` may run more than once; it touches nothing but its connection.
        Raises: what `work` raises; DatabaseUnavailable.
        """
        return self._writer.submit(work).result()

    def write_async(self, work: Work[T]) -> Future[T]:
        """As `write`, for a caller that must not wait in its thread."""
        return self._writer.submit(work)

    def migrate(self) -> None:
        """Bring the tables to the shape this server knows. Safe to repeat. Raises: UserError.

        On SQLite, whose only server this is, the claims of a server that was killed are freed.
        """
        self.write(schema.migrate)
        if self._lock is not None:
            self.write(_free_claims)

    def close(self) -> None:
        """Finish the queued writes and let go of everything. Safe to repeat."""
        self._writer.close()
        for engine in self._engines:
            engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def state(self, key: str) -> str | None:
        """Return a small fact of the server itself."""
        with self.read() as connection:
            query = select(server_state.c.value).where(server_state.c.key == key)
            return connection.execute(query).scalar_one_or_none()

    def set_state(self, key: str, value: str) -> None:
        """Remember a small fact of the server itself. Safe to repeat."""
        self.set_state_async(key, value).result()

    def set_state_async(self, key: str, value: str) -> Future[None]:
        """As `set_state`, for a caller that must not wait in its thread."""

        def work(connection: Connection) -> None:
            connection.execute(delete(server_state).where(server_state.c.key == key))
            insert_once(connection, server_state, {"key": key, "value": value})

        return self.write_async(work)


def _free_claims(connection: Connection) -> None:
    # Only what is due at some time can be claimed, and that has an index.
    for table, due_at in (
        (runs, runs.c.look_again_at),
        (deliveries, deliveries.c.due_at),
        (publications, publications.c.due_at),
    ):
        connection.execute(
            update(table)
            .where(due_at.is_not(None), table.c.lock_token.is_not(None))
            .values(lock_token=None, lock_until=None)
        )


def _is_sqlite(driver: str) -> bool:
    return driver.startswith("sqlite")


def _server_lock(database: str | None) -> ServerLock:
    path = Path(database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    return ServerLock(path)


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique column already has its value; return whether it was new."""
    statement = _insert_once(connection.dialect.name, table)
    # An INSERT's rowcount is unreliable (psycopg: -1); what it returns is not.
    return connection.execute(statement, dict(values)).first() is not None


@functools.cache
def _insert_once(dialect: str, table: Table) -> Executable:
    # Built once a table: webhooks come thousands a second.
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing().returning(*table.primary_key)


def lease_clock(connection: Connection, now: datetime) -> ColumnElement[datetime]:
    """Return the clock that leases live by: the database's own, since replicas' clocks differ.

    SQLite has none, and one server at a time, whose clock is as good.
    """
    own = own_clock(connection)
    return literal(now, Moment()) if own is None else own.now()


def lease_end(
    connection: Connection, now: datetime, lease: timedelta
) -> ColumnElement[datetime] | datetime:
    """Return when a lease taken now runs out, by the clock that leases live by."""
    own = own_clock(connection)
    return now + lease if own is None else own.after(lease)


def own_clock(connection: Connection) -> LeaseClock | None:
    """Return the database's own clock; None: the caller's is as good."""
    clock: LeaseClock | None = connection.get_execution_options().get(LEASE_CLOCK)
    return clock


def lease_now(clock: LeaseClock | None) -> ColumnElement[datetime]:
    """Return the clock that leases live by, for a statement that is built once.

    It is carried out with the parameter `now`, by which the caller's clock counts if it has to.
    """
    return bindparam("now", type_=Moment()) if clock is None else clock.now()
