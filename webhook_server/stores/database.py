"""The one database of a server: short reads from any thread, writes through one writer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Select,
    Table,
    bindparam,
    delete,
    literal,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from cynthus.errors import UserError
from webhook_server.stores import schema
from webhook_server.stores.engines import (
    ANSWER_LIMIT_S,
    LEASE_CLOCK,
    LeaseClock,
    ServerLock,
    open_engine,
)
from webhook_server.stores.tables import (
    Moment,
    deliveries,
    is_set,
    publications,
    runs,
    server_state,
)
from webhook_server.stores.writer import DatabaseUnavailable, Joint, R, T, Work, Writer

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

CONTROL_PLANE = "control_plane"  # server_state: the id that everything we rent carries


class Reads(Protocol):
    """Gives connections for short reads; SQLAlchemy's engine is one."""

    def begin(self) -> AbstractContextManager[Connection]:
        """Return a connection within a transaction that ends with the block."""


class Writes(Protocol):
    """Carries out works, each durable before its answer is given; `Writer` is one."""

    def submit(self, work: Work[T], *, at_door: bool = False) -> Future[T]:
        """Queue a work; the future has its answer once it is durable."""

    def submit_row(self, joint: Joint[R, T], row: R) -> Future[T]:
        """Queue a row of a joint work; the future has its answer once it is durable."""

    @property
    def waiting(self) -> int:
        """Return how many works are queued, those of the commit under way aside."""

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


def connect(url: str, *, answer_limit_s: float = ANSWER_LIMIT_S) -> Connections:
    """Return the connections to a database. Raises: UserError, if the URL names none of ours."""
    address = make_url(url)
    _check(address.drivername, address.database)
    lock = _server_lock(address.database) if _is_sqlite(address.drivername) else None
    reading, writing = (
        open_engine(address, writes=writes, answer_limit_s=answer_limit_s)
        for writes in (False, True)
    )
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

    @property
    def writes_waiting(self) -> int:
        """Return how many works wait for the writer."""
        return self._writer.waiting

    def read(self) -> AbstractContextManager[Connection]:
        """Give a connection for one short read of one consistent state; it cannot write.

        Raises, at its begin, in the block or at its end: DatabaseUnavailable.
        """
        return _Read(self._reading.begin)

    def write(self, work: Work[T]) -> T:
        """Carry out `work` in a transaction and return its answer once it is durable.

        `work` may run more than once; it touches nothing but its connection.
        Raises: what `work` raises; DatabaseUnavailable.
        """
        return self._writer.submit(work).result()

    def write_async(self, work: Work[T]) -> Future[T]:
        """As `write`, for a caller that must not wait in its thread."""
        return self._writer.submit(work)

    def write_at_door(self, work: Work[T]) -> T:
        """As `write`, before what loops want written: somebody outside waits for the answer."""
        return self.write_at_door_async(work).result()

    def write_at_door_async(self, work: Work[T]) -> Future[T]:
        """As `write_at_door`, for a door that has others to hear meanwhile."""
        return self._writer.submit(work, at_door=True)

    def write_row_async(self, joint: Joint[R, T], row: R) -> Future[T]:
        """As `write_async`, for one row of a work that is carried out for many together."""
        return self._writer.submit_row(joint, row)

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

    def keep_state(self, key: str, value: str) -> str:
        """Remember a small fact unless it is known already; return what is known.

        Safe to repeat, by many servers at once: all get the same answer.
        """

        def work(connection: Connection) -> str:
            insert_once(connection, server_state, {"key": key, "value": value})
            query = select(server_state.c.value).where(server_state.c.key == key)
            kept: str = connection.execute(query).scalar_one()
            return kept

        return self.write(work)

    def set_state(self, key: str, value: str) -> None:
        """Remember a small fact of the server itself. Safe to repeat."""
        self.set_state_async(key, value).result()

    def set_state_async(self, key: str, value: str) -> Future[None]:
        """As `set_state`, for a caller that must not wait in its thread."""

        def work(connection: Connection) -> None:
            connection.execute(delete(server_state).where(server_state.c.key == key))
            insert_once(connection, server_state, {"key": key, "value": value})

        return self.write_async(work)


class _Read:
    """One short read. A class, since every look at the database is one: generators cost twice."""

    __slots__ = ("_begin", "_begun")
    _begun: AbstractContextManager[Connection]

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._begin = begin

    def __enter__(self) -> Connection:
        try:
            self._begun = self._begin()
            return self._begun.__enter__()
        except OperationalError as error:
            raise _silent() from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._begun.__exit__(kind, error, trace)
        except OperationalError as later:
            raise _silent() from later
        if isinstance(error, OperationalError):
            raise _silent() from error


def _silent() -> DatabaseUnavailable:
    return DatabaseUnavailable("the database does not answer. Try again.")


def _free_claims(connection: Connection) -> None:
    # Only what is due at some time can be claimed, and that has an index.
    for table, due_at in (
        (runs, runs.c.look_again_at),
        (deliveries, deliveries.c.due_at),
        (publications, publications.c.due_at),
    ):
        connection.execute(
            update(table)
            .where(is_set(due_at), table.c.lock_token.is_not(None))
            .values(lock_token=None, lock_until=None)
        )


def _is_sqlite(driver: str) -> bool:
    return driver.startswith("sqlite")


def _server_lock(database: str | None) -> ServerLock:
    return ServerLock(Path(database or ""))


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique column already has its value; return whether it was new."""
    statement = _insert_once(connection.dialect.name, table)
    # An INSERT's rowcount is unreliable (psycopg: -1); what it returns is not.
    return connection.execute(statement, dict(values)).first() is not None


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows unless unique columns already have their values. Safe to repeat."""
    connection.execute(_insert(connection.dialect.name, table), rows)


def once_from(
    connection: Connection, table: Table, columns: Sequence[str], rows: Select[Any]
) -> postgresql.Insert | sqlite.Insert:
    """Return what inserts a query's rows, but for what unique columns already have.

    Safe to repeat. SQLite asks for a query with a condition: https://sqlite.org/lang_upsert.html
    """
    return _insert(connection.dialect.name, table).from_select(columns, rows)


@functools.cache
def _insert_once(dialect: str, table: Table) -> Executable:
    return _insert(dialect, table).returning(*table.primary_key)


@functools.cache
def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    # Built once a table, since building a statement costs more than running it.
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # late: most servers are on SQLite

        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


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


# The same for statements that are built once: their moments are bound when they are carried out.


def bound_lease_clock(clock: LeaseClock | None) -> ColumnElement[datetime]:
    """Return the clock of leases; where it is not the database's own, it is bound as `now`."""
    return bindparam("now", type_=Moment()) if clock is None else clock.now()


def bound_lease_end(clock: LeaseClock | None, lease: timedelta) -> ColumnElement[datetime]:
    """Return when a lease runs out; it may need what `lease_values` returns."""
    return bindparam("lease_end", type_=Moment()) if clock is None else clock.after(lease)


def lease_values(clock: LeaseClock | None, now: datetime, lease: timedelta) -> dict[str, datetime]:
    """Return what `bound_lease_end` needs."""
    return {"lease_end": now + lease} if clock is None else {}
