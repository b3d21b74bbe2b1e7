"""Turn frozen dataclasses into JSON values, or JSON values into dataclasses.

What a class needs is looked up once: a pass reads and writes a run's whole record, a heartbeat
its instance's, and reading type hints costs more than reading what they describe.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar, Union

from cynthus.errors import UserError
from cynthus.frozen import made, plain

T = TypeVar("T")
Reader = Callable[[Any], Any]  # of one kind of JSON value; raises `_Wrong`


class _Wrong(Exception):  # noqa: N818 - read as what happened
    """A value is not what it should be; the way to it is added on the way out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[str] = []  # the innermost first: a member's name, or "/" and an index

    def at(self, step: str) -> None:
        """Note one step of the way."""
        self.steps.append(step)

    def told(self, where: str) -> UserError:
        """Return what is said of a message that is found at `where`."""
        for step in reversed(self.steps):
            where = f"{where}/{step}" if where and not step.startswith("/") else f"{where}{step}"
        return UserError(f"{where or 'message'}: {self}")


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def encode(value: Any) -> Any:
    """Return `value` as JSON: moments as ISO 8601 UTC, durations as seconds, decimals as text."""
    kind: Any = type(value)
    return _writer(kind)(value)


@functools.cache
def _writer(kind: type) -> Callable[[Any], Any]:
    """Return what writes values of exactly this class."""
    if dataclasses.is_dataclass(kind):
        names = tuple(f.name for f in dataclasses.fields(kind))
        return functools.partial(_kept if plain(kind) else _members_of, names)
    return next((write for base, write in _WRITERS if issubclass(kind, base)), _as_it_is)


def _kept(names: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return the members of a plain class, whose fields are all that its values keep."""
    kept = value.__dict__
    return {
        # Most members are JSON as they are, and one call less for each is a third of the time.
        name: member if type(member := kept[name]) in _AS_THEY_ARE else encode(member)
        for name in names
    }


def _members_of(names: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {name: encode(getattr(value, name)) for name in names}


def _as_it_is(value: Any) -> Any:
    return value


def _moment_text(value: datetime) -> str:
    return _utc_text(value if value.tzinfo is UTC else value.astimezone(UTC))


@functools.lru_cache(maxsize=4096)  # a run is written at each pass, with the moments it had before
def _utc_text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _list(value: Iterable[Any]) -> list[Any]:
    return [encode(item) for item in value]


_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})
#: By class; the first that fits.
_WRITERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (datetime, _moment_text),
    (timedelta, timedelta.total_seconds),
    (Decimal, lambda value: format(value, "f")),
    (Mapping, lambda value: {str(key): encode(item) for key, item in value.items()}),
    (list, _list),
    (tuple, _list),
)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """Read a JSON value as `kind`; unknown members are ignored, so that versions can differ.

    Raises: UserError, naming the member, what it should be and the type that was found.
    """
    try:
        return typing.cast("T", _reader(kind)(value))
    except _Wrong as fault:
        raise fault.told(where) from fault.__cause__


def _reader(kind: Any) -> Reader:
    """Return what reads a kind."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, type) and (issubclass(kind, Enum) or dataclasses.is_dataclass(kind)):
        return _class_reader(kind)
    return _generic(kind)


@functools.cache
def _class_reader(kind: type) -> Reader:
    # Classes only: unions that differ in their order are equal, and are not read alike.
    if issubclass(kind, Enum):
        return functools.partial(_enum, {item.value: item for item in kind})
    return functools.partial(_record, kind)


def _generic(kind: Any) -> Reader:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
            return functools.partial(_items, _reader(arguments[0]))
        return functools.partial(_places, tuple(_reader(argument) for argument in arguments))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_mapping, _reader(arguments[1]))
    if origin is typing.Literal:
        return functools.partial(_literal, kind)
    return functools.partial(_nothing, kind)


def _items(reader: Reader, value: Any) -> Any:
    if not isinstance(value, list):
        raise _wrong("a list", value)
    found = []
    for item in value:
        try:
            found.append(reader(item))
        except _Wrong as fault:
            fault.at(f"/{len(found)}")
            raise
    return tuple(found)


def _places(readers: tuple[Reader, ...], value: Any) -> Any:
    if not isinstance(value, list):
        raise _wrong("a list", value)
    if len(readers) != len(value):
        raise _wrong(f"a list of {len(readers)}", value)
    found = []
    for reader, item in zip(readers, value, strict=True):
        try:
            found.append(reader(item))
        except _Wrong as fault:
            fault.at(f"/{len(found)}")
            raise
    return tuple(found)


def _mapping(reader: Reader, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _wrong("an object", value)
    found = {}
    for key, item in value.items():
        try:
            found[key] = reader(item)
        except _Wrong as fault:
            fault.at(f"/{key}")
            raise
    return found


def _literal(kind: Any, value: Any) -> Any:
    if value in typing.get_args(kind):
        return value
    raise _wrong(str(kind), value)


def _nothing(kind: Any, value: Any) -> Any:
    raise _wrong(str(kind), value)


def _union(arguments: tuple[Any, ...]) -> Reader:
    readers = tuple(_reader(one) for one in arguments if one is not type(None))
    may_be_none = len(readers) < len(arguments)
    if may_be_none and len(readers) == 1:
        return functools.partial(_optional, readers[0])
    return functools.partial(_one_of, readers, may_be_none)


def _optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _one_of(readers: tuple[Reader, ...], may_be_none: bool, value: Any) -> Any:
    if may_be_none and value is None:
        return None
    faults: list[_Wrong | UserError] = []
    for reader in readers:
        try:
            return reader(value)
        except (_Wrong, UserError) as fault:
            faults.append(fault)
    raise faults[0]


def _record(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _wrong("an object", value)
    members: dict[str, Any] = {}
    for name, as_they_are, reader, default in _members(kind):
        if name in value:
            found = value[name]
            if type(found) in as_they_are:
                members[name] = found
                continue
            try:
                members[name] = reader(found)
            except _Wrong as fault:
                fault.at(name)
                raise
        elif default is None:
            raise _Wrong(f"should have the member `{name}`. Add it.")
        else:
            members[name] = default()
    if plain(kind):
        return made(kind, members)
    try:
        return kind(**members)
    except ValueError as error:
        raise _Wrong(str(error)) from error


@functools.cache
def _members(
    kind: Any,
) -> tuple[tuple[str, frozenset[type], Reader, Callable[[], Any] | None], ...]:
    """Return each member's name, what of it is read as it is, what reads it, what stands for it."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, _unread(hints[field.name]), _reader(hints[field.name]), _default(field))
        for field in dataclasses.fields(kind)
        if field.init
    )


def _unread(kind: Any) -> frozenset[type]:
    """Return the types of JSON that this kind has unchanged: there is nothing to be read."""
    if kind in _UNCHANGED:
        return frozenset({kind})
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (Union, types.UnionType) and type(None) in arguments:
        of_others = [_unread(one) for one in arguments if one is not type(None)]
        # Of several, the first that fits reads it.
        return frozenset({type(None)}).union(*of_others if len(of_others) == 1 else ())
    return frozenset()


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None


def _enum(items: Mapping[Any, Enum], value: Any) -> Enum:
    try:
        return items[value]
    except (KeyError, TypeError):  # a list is nobody's key
        raise _wrong(f"one of {', '.join(map(str, items))}", value) from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong("text", value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong("a whole number", value)


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number of JSON may be longer than any float
            raise _wrong("a smaller number", value) from None
    raise _wrong("a number", value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong("true or false", value)


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong("a moment such as 2026-01-31T12:00:00Z", value) from None
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise _wrong("a moment with its time zone", value)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in UTC it lies before the year 1 or after 9999
        raise _wrong("a moment of the years 1 to 9999 in UTC", value) from None


def _duration(value: Any) -> timedelta:
    try:
        return timedelta(seconds=_number(value))
    except (OverflowError, ValueError):
        raise _wrong("seconds", value) from None


def _decimal(value: Any) -> Decimal:
    try:
        found = Decimal(value if isinstance(value, (str, int)) else str(value))
    except InvalidOperation:
        raise _wrong("a decimal number", value) from None
    if not found.is_finite():
        raise _wrong("a finite number", value)
    return found


_UNCHANGED = frozenset({str, int, float, bool})
_SCALARS: Mapping[Any, Reader] = {
    Any: _as_it_is,
    object: _as_it_is,
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    datetime: _moment,
    timedelta: _duration,
    Decimal: _decimal,
}


def _wrong(wanted: str, found: Any) -> _Wrong:
    # The type is named and never the value: messages may carry secrets.
    return _Wrong(f"should be {wanted}, found {type(found).__name__}.")
