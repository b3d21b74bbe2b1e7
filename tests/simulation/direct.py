"""Carry out SQLAlchemy's compiled statements on SQLite's driver, with nothing between the two.

The SQL is what SQLAlchemy's compiler writes for SQLite, values go through its types on both ways.
Left out is what a history does not prove and what costs five times as much as
the statement: execution contexts, events, cursor results, rows, pools. `test_direct.py` lives equal
histories over both.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, TypeVar, cast

from sqlalchemy import JSON, Connection, Executable
from sqlalchemy.engine import Row
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from webhook_server.stores.json_text import from_json
from webhook_server.stores.tables import Moment

T = TypeVar("T")
Values = Mapping[str, Any]
Process = Callable[[Any], Any]


class DirectConnection:
    """What our stores ask of a `Connection`, for one SQLite connection that lives in one thread."""

    def __init__(self, raw: sqlite3.Connection, dialect: Dialect, options: Values) -> None:
        self.dialect = dialect
        self._raw, self._options = raw, options
        self._known: dict[int, _Statement] = {}
        self._first: dict[Any, _Statement] = {}  # of each shape, by SQLAlchemy's own key of it

    def get_execution_options(self) -> Values:
        """See `Connection`."""
        return self._options

    def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None
    ) -> Answer:
        """See `Connection`. Raises: DBAPIError."""
        known = self._known.get(id(statement)) or self._meet(statement)
        if type(parameters) is list:
            for values in parameters[:-1]:
                self._one(known, statement, values)
            parameters = parameters[-1]
        return self._one(known, statement, cast("Values", parameters or _NONE))

    def scalars(self, statement: Executable, parameters: Values | None = None) -> Scalars:
        """See `Connection`."""
        return self.execute(statement, parameters).scalars()

    def exec_driver_sql(
        self, text: str, values: tuple[Any, ...] | list[tuple[Any, ...]] = ()
    ) -> Answer:
        """See `Connection`. Raises: DBAPIError."""
        do = self._raw.executemany if isinstance(values, list) else self._raw.execute
        try:
            cursor = do(text, values)
            found = cursor.fetchall() if cursor.description else []
        except sqlite3.Error as error:
            raise DBAPIError.instance(text, values, error, sqlite3.Error) from error
        kind = _row(tuple(column[0] for column in cursor.description or ()))
        return Answer([kind(one) for one in found], cursor.rowcount)

    def _meet(self, statement: Any) -> _Statement:
        """Return what is known of the first statement of this shape."""
        shape = statement._generate_cache_key()
        if shape is None:
            return _Statement(statement, self.dialect)
        first = self._first.get(shape.key)
        if first is None:
            # It is kept, so that no other one is ever found at its address.
            first = self._first[shape.key] = _Statement(statement, self.dialect)
            self._known[id(statement)] = first
        return first

    def _one(self, known: _Statement, statement: Executable, values: Values) -> Answer:
        compiled = known.by_names.get(tuple(values))
        prepared = (compiled and compiled.only) or known.prepared(statement, values)
        told = prepared.told(values) if statement is known.first else prepared.of(statement, values)
        try:
            cursor = self._raw.execute(prepared.sql, told)
            if not prepared.has_rows:
                return Answer((), cursor.rowcount)
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            raise DBAPIError.instance(prepared.sql, told, error, sqlite3.Error) from error
        return Answer(prepared.rows(rows), cursor.rowcount)


def over(raw: sqlite3.Connection, dialect: Dialect, options: Values) -> Connection:
    """Return such a connection, as our stores know it."""
    return cast("Connection", DirectConnection(raw, dialect, options))


# ── statements ──────────────────────────────────────────────────────────────────────────────────


class _Statement:
    """All that was prepared of statements of one shape."""

    def __init__(self, first: Any, dialect: Dialect) -> None:
        self.first = first
        self._dialect = dialect
        self.by_names: dict[tuple[str, ...], _Compiled] = {}

    def prepared(self, statement: Executable, values: Values) -> _Prepared:
        """Return what carries such a statement out with values of these names."""
        names = tuple(values)
        compiled = self.by_names.get(names)
        if compiled is None:
            compiled = self.by_names[names] = _Compiled(self.first, names, self._dialect)
        return compiled.prepared(statement, values)


class _Compiled:
    """A statement as text, for values of certain names."""

    def __init__(self, statement: Any, names: tuple[str, ...], dialect: Dialect) -> None:
        self._dialect = dialect
        self._shape = statement._generate_cache_key()
        self._compiled = statement._compiler(
            dialect, cache_key=self._shape, column_keys=sorted(names), for_executemany=False
        )
        self._lists = [bind.key for bind in self._compiled.post_compile_params]
        self._by_lengths: dict[tuple[int, ...], _Prepared] = {}
        self.only: _Prepared | None = None  # where there is no list

    def prepared(self, statement: Executable, values: Values) -> _Prepared:
        """Return it for lists (of `IN`) that are as long as these."""
        if self.only is not None:
            return self.only
        lengths = tuple([len(values[key]) if key in values else -1 for key in self._lists])
        found = self._by_lengths.get(lengths)
        if found is None:
            example = _filled(self._compiled, statement, values) if lengths else values
            found = _Prepared(self._compiled, self._dialect, values, example)
            if not lengths:
                self.only = found
            elif -1 not in lengths:  # what the statement itself has may be another next time
                self._by_lengths[lengths] = found
        return found


class _Prepared:
    """The text for the driver, and what its values and rows go through."""

    def __init__(
        self, compiled: SQLCompiler, dialect: Dialect, given: Values, example: Values
    ) -> None:
        self._compiled = compiled
        self._processes: dict[str, Process] = dict(compiled._bind_processors)  # type: ignore[arg-type]
        self._processes |= {
            name: _put for bind, name in compiled.bind_names.items() if _is_moment(bind.type)
        }
        self._defaults = _defaults(compiled)
        self._lists: dict[str, list[str]] = {}
        self.sql, names = compiled.string, compiled.positiontup or []
        if compiled.post_compile_params:
            state = compiled._process_parameters_for_postcompile(dict(example))
            self.sql, names = state.statement, state.positiontup or []
            self._processes |= cast("Mapping[str, Process]", state.processors)
            self._lists = state.parameter_expansion
        self._names: Sequence[str] = names
        self._keys = {name: bind.key for bind, name in compiled.bind_names.items()}
        self._given = frozenset(given)
        self._plan = self._planned(compiled.construct_params(_check=False, escape_names=False))
        columns = compiled._result_columns
        self.has_rows = bool(columns)
        self._kind = _row(tuple(column.keyname for column in columns))
        processes = [_result(column.type, dialect) for column in columns]
        self._results = [(place, one) for place, one in enumerate(processes) if one is not None]

    def _planned(self, own: Values) -> list[tuple[str | None, Process | None, Any]] | None:
        """Say of each place whose value is put there: the caller's by its key, or this one."""
        if not self._lists.keys() <= self._given:
            return None  # a list that the statement itself has
        parts = {part for parts in self._lists.values() for part in parts}
        plan: list[tuple[str | None, Process | None, Any]] = []
        for name in self._names:
            process = self._processes.get(name)
            if name in parts:
                plan.append((name, process, None))
                continue
            key = self._keys[name]
            given = key if key in self._given else name if name in self._given else None
            value = None
            if given is None:
                value = self._defaults[name]() if name in self._defaults else own[name]
                value = value if process is None else process(value)
            plan.append((given, process, value))
        return plan

    def told(self, values: Values) -> Sequence[Any]:
        """Return what the driver is told, for the statement that this was prepared of."""
        if self._plan is None:
            return self._processed(self._compiled.construct_params(values, escape_names=False))
        if self._lists:
            values = dict(values)
            for name, parts in self._lists.items():
                values.update(zip(parts, values[name], strict=True))
        return [
            value if key is None else values[key] if process is None else process(values[key])
            for key, process, value in self._plan
        ]

    def of(self, statement: Any, values: Values) -> Sequence[Any]:
        """Return what the driver is told, for another statement of the same shape."""
        return self._processed(_filled(self._compiled, statement, values))

    def _processed(self, found: dict[str, Any]) -> Sequence[Any]:
        for name, default in self._defaults.items():
            found[name] = default()
        for name, parts in self._lists.items():
            found.update(zip(parts, found[name], strict=True))
        processes = self._processes
        return [
            processes[name](found[name]) if name in processes else found[name]
            for name in self._names
        ]

    def rows(self, found: list[tuple[Any, ...]]) -> list[Row[*tuple[Any, ...]]]:
        """Return what the driver answered as rows."""
        kind, results = self._kind, self._results
        if not results:
            return [kind(one) for one in found]
        return [kind(_processed(one, results)) for one in found]


def _processed(one: tuple[Any, ...], results: Sequence[tuple[int, Process]]) -> list[Any]:
    values = list(one)
    for place, process in results:
        values[place] = process(values[place])
    return values


@functools.cache
def _row(names: tuple[str, ...]) -> Any:
    """Return a class of rows with these columns: SQLAlchemy's own finds a name by two detours."""
    # A column is never hidden by what tuples have; `_mapping` is what stores ask of rows besides.
    members: dict[str, Any] = {
        name: property(itemgetter(place))
        for place, name in enumerate(names)
        if not hasattr(tuple, name)
    }
    members["_mapping"] = property(lambda row: dict(zip(names, row, strict=True)))
    return type("Row", (tuple,), {"__slots__": (), **members})


def _filled(compiled: SQLCompiler, statement: Any, values: Values) -> dict[str, Any]:
    """Return the value of every name in the text: the caller's, or the statement's own."""
    shape = statement._generate_cache_key()
    return compiled.construct_params(
        values, extracted_parameters=shape and shape.bindparams, escape_names=False
    )


def _defaults(compiled: SQLCompiler) -> dict[str, Callable[[], Any]]:
    """Return what makes the values of columns that nobody named."""
    found: dict[str, Callable[[], Any]] = {}
    for column in (*compiled.insert_prefetch, *compiled.update_prefetch):
        default: Any = column.default
        if default.is_callable:
            found[column.key] = lambda default=default: default.arg(None)
        else:
            found[column.key] = lambda default=default: default.arg
    return found


# ── moments: as SQLAlchemy stores them, without its four calls for each ──────────────────────────


@functools.lru_cache(maxsize=10_000)  # most are stored many times
def stored(moment: datetime) -> str:
    """Return a moment of UTC as SQLAlchemy stores it in SQLite."""
    return moment.isoformat(" ", "microseconds")[:_MOMENT]


def _put(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("a moment must carry its time zone")
    return stored(moment if moment.tzinfo is UTC else moment.astimezone(UTC))


def _got(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")


def _result(kind: TypeEngine[Any], dialect: Dialect) -> Process | None:
    """Return what a value of this type goes through on its way out of the database."""
    if _is_moment(kind):
        return _got
    if isinstance(kind, JSON):
        return _read
    return kind._cached_result_processor(dialect, None)


def _read(found: Any) -> Any:
    """Return what JSON says; SQLite keeps numbers as such."""
    return from_json(found) if type(found) is str else found


def _is_moment(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind, Moment)


_NONE: Values = {}
_MOMENT = len("2026-01-15 12:00:00.000000")


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


class Answer:
    """What our stores ask of a `CursorResult`."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Row[*tuple[Any, ...]]], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    @property
    def returns_rows(self) -> bool:
        """See `CursorResult`: there may be none."""
        return True

    def __iter__(self) -> Iterator[Row[*tuple[Any, ...]]]:
        return iter(self._rows)

    def all(self) -> Sequence[Row[*tuple[Any, ...]]]:
        """See `Result`; so all that follow."""
        return self._rows

    def first(self) -> Row[*tuple[Any, ...]] | None:
        return self._rows[0] if self._rows else None

    def one(self) -> Row[*tuple[Any, ...]]:
        return _one(self._rows)

    def one_or_none(self) -> Row[*tuple[Any, ...]] | None:
        return _one(self._rows) if self._rows else None

    def scalar_one(self) -> Any:
        return _one(self._rows)[0]

    def scalar_one_or_none(self) -> Any:
        return _one(self._rows)[0] if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalars(self) -> Scalars:
        return Scalars([row[0] for row in self._rows])


class Scalars:
    """What our stores ask of a `ScalarResult`."""

    __slots__ = ("_values",)

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def all(self) -> Sequence[Any]:
        """See `ScalarResult`; so all that follow."""
        return self._values

    def first(self) -> Any:
        return self._values[0] if self._values else None

    def one(self) -> Any:
        return _one(self._values)

    def one_or_none(self) -> Any:
        return _one(self._values) if self._values else None


def _one(found: Sequence[T]) -> T:
    if len(found) > 1:
        raise MultipleResultsFound("Multiple rows were found when exactly one was required")
    if not found:
        raise NoResultFound("No row was found when one was required")
    return found[0]
