"""Turn frozen dataclasses into JSON values, or JSON values into dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar, Union

from cynthus.errors import UserError

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return `value` as JSON: moments as ISO 8601 UTC, durations as seconds, decimals as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """Read a JSON value as `kind`; unknown members are ignored, so that versions can differ.

    Raises: UserError, naming the member, what it should be and the type that was found.
    """
    return typing.cast("T", _decode(kind, value, where))


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind in {Any, object}:
        return value
    if kind in _SCALARS:
        return _SCALARS[kind](value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind, value, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    return _generic(kind, value, where)


def _generic(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
            return tuple(
                _decode(arguments[0], item, f"{where}/{i}") for i, item in enumerate(value)
            )
        if len(arguments) != len(value):
            raise _wrong(where, f"a list of {len(arguments)}", value)
        pairs = zip(arguments, value, strict=True)
        return tuple(_decode(a, item, f"{where}/{i}") for i, (a, item) in enumerate(pairs))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {key: _decode(arguments[1], item, f"{where}/{key}") for key, item in value.items()}
    if origin is typing.Literal and value in arguments:
        return value
    raise _wrong(where, str(kind), value)


def _union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    fault: UserError | None = None
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return _decode(argument, value, where)
        except UserError as error:
            fault = fault or error
    raise fault or _wrong(where, "nothing", value)


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    members: dict[str, Any] = {}
    for name, hint, required in _members(kind):
        if name in value:
            members[name] = _decode(hint, value[name], f"{where}/{name}" if where else name)
        elif required:
            raise UserError(f"{where or 'message'}: should have the member `{name}`. Add it.")
    try:
        return kind(**members)
    except ValueError as error:
        raise UserError(f"{where or 'message'}: {error}") from error


@functools.cache
def _members(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = typing.get_type_hints(kind)
    nothing = dataclasses.MISSING
    return tuple(
        (f.name, hints[f.name], f.default is nothing and f.default_factory is nothing)
        for f in dataclasses.fields(kind)
        if f.init
    )


def _enum(kind: type[Enum], value: Any, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(str(item.value) for item in kind)
        raise _wrong(where, f"one of {words}", value) from None


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(where, "text", value)


def _whole(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(where, "a whole number", value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number of JSON may be longer than any float
            raise _wrong(where, "a smaller number", value) from None
    raise _wrong(where, "a number", value)


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(where, "true or false", value)


def _moment(value: Any, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(where, "a moment such as 2026-01-31T12:00:00Z", value) from None
    if moment.tzinfo is None:
        raise _wrong(where, "a moment with its time zone", value)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in UTC it lies before the year 1 or after 9999
        raise _wrong(where, "a moment of the years 1 to 9999 in UTC", value) from None


def _duration(value: Any, where: str) -> timedelta:
    try:
        return timedelta(seconds=_number(value, where))
    except (OverflowError, ValueError):
        raise _wrong(where, "seconds", value) from None


def _decimal(value: Any, where: str) -> Decimal:
    try:
        found = Decimal(value if isinstance(value, (str, int)) else str(value))
    except InvalidOperation:
        raise _wrong(where, "a decimal number", value) from None
    if not found.is_finite():
        raise _wrong(where, "a finite number", value)
    return found


_SCALARS: Mapping[Any, Any] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    datetime: _moment,
    timedelta: _duration,
    Decimal: _decimal,
}


def _wrong(where: str, wanted: str, found: Any) -> UserError:
    # The type is named and never the value: messages may carry secrets.
    return UserError(f"{where or 'message'}: should be {wanted}, found {type(found).__name__}.")
