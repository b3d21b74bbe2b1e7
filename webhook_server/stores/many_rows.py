"""Carry out one statement for many rows at once, written for the driver as it is.

What SQLAlchemy does for each statement and each of its values costs a busy door more than the
database's own work does, and a driver that is given rows one by one hands the interpreter over at
each. Only the two works that a thousand requests a second share are written so; all else is built
of the tables (docs/performance.md).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Row

from webhook_server.stores.json_text import from_json

#: Rows a statement: more become several, so that there are few texts for the driver to prepare.
MOST = 32
#: What a driver keeps prepared: each text with each number of rows, and the other statements.
PREPARED = 512


@dataclass(frozen=True)
class ManyRows:
    """`before`, then `row` for each row with commas between, then `after`; `?` is a value.

    Both databases call the columns of `VALUES` column1, column2, …:
    https://sqlite.org/lang_select.html#values, https://www.postgresql.org/docs/current/sql-values.html
    """

    before: str
    row: str
    after: str = ""
    locks: bool = False  # what it reads: SQLite has one writer and no such word

    def execute(
        self, connection: Connection, rows: Sequence[Sequence[Any]]
    ) -> list[Row[*tuple[Any, ...]]]:
        """Carry it out; return what it returns. No rows: nothing is done."""
        found: list[Row[*tuple[Any, ...]]] = []
        for at in range(0, len(rows), MOST):
            some = rows[at : at + MOST]
            values = tuple([value for row in some for value in row])
            text = _text(self, len(some), connection.dialect.name)
            answer = connection.exec_driver_sql(text, values)
            if answer.returns_rows:
                found += answer
        return found


@dataclass(frozen=True)
class EachRow:
    """A statement that is carried out for each row by itself; `?` is a value."""

    text: str

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Carry it out. No rows: nothing is done."""
        if rows:
            text = _for_driver(self.text, connection.dialect.name)
            connection.exec_driver_sql(text, list(rows))


@functools.cache
def _text(statement: ManyRows, count: int, dialect: str) -> str:
    text = statement.before + ", ".join([statement.row] * count) + statement.after
    locks = statement.locks and dialect != "sqlite"
    return _for_driver(f"{text} FOR UPDATE" if locks else text, dialect)


@functools.cache
def _for_driver(text: str, dialect: str) -> str:
    return text if dialect == "sqlite" else text.replace("?", "%s")


# ── values: as the tables' own types store them, which are not asked here ───────────────────────


def stored_moment(connection: Connection, at: datetime) -> datetime | str:
    """Return a moment as the database stores it. Raises: ValueError, without its time zone."""
    if at.tzinfo is None:
        raise ValueError("a moment must carry its time zone")
    if connection.dialect.name != "sqlite":
        return at
    return at.astimezone(UTC).isoformat(" ", "microseconds")[:_MOMENT]


_MOMENT = len("2026-01-15 12:00:00.000000")


def moment_of(stored: datetime | str) -> datetime:
    """Return a moment that the database stores."""
    if isinstance(stored, str):
        return datetime.fromisoformat(stored + "+00:00")
    return stored.astimezone(UTC)


def json_of(stored: Any) -> Any:
    """Return an object that the database stores as JSON, or None.

    SQLite's driver answers with its text, PostgreSQL's with the object; a text would be mistaken.
    """
    return from_json(stored) if isinstance(stored, str) else stored
