"""SQLite's dialect, with transactions that begin as ours must.

By the dialect and not by an event of the engine, as SQLAlchemy's manual shows it: with any such
event each statement of the engine costs a third more.
https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-transactions
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_HERE = __name__


class Reading(SQLiteDialect_pysqlite):
    """Reads one consistent state."""

    supports_statement_cache = True
    _begin = "BEGIN"

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin a transaction, which the driver does not do by itself."""
        dbapi_connection.execute(self._begin)


class Writing(Reading):
    """Writes from the start.

    A writer that begins by reading could not become a writer later (SQLITE_BUSY_SNAPSHOT).
    """

    supports_statement_cache = True
    _begin = "BEGIN IMMEDIATE"


registry.register("sqlite.cynthus_reading", _HERE, Reading.__name__)
registry.register("sqlite.cynthus_writing", _HERE, Writing.__name__)


def url_of(url: URL, *, writes: bool) -> URL:
    """Return the address with the dialect in it."""
    return url.set(drivername="sqlite+cynthus_writing" if writes else "sqlite+cynthus_reading")
