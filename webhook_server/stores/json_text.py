"""Write values as JSON text for the database, at the speed of a compiled writer."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core

from cynthus.codec import encode


class JsonText(str):
    """A value that is JSON text already: `to_json` returns it as it is."""

    __slots__ = ()


def to_json(value: Any) -> str:
    """Return a JSON value, or one of our frozen dataclasses, as JSON: what `codec.encode` means.

    A quarter of the time that encoding and the standard library's writer take. What
    pydantic-core writes otherwise than we do, or refuses, is written by that one: half a
    character of UTF-16, which SQLite keeps as its escape. Raises: ValueError, for NaN and the
    infinities, which are no JSON: PostgreSQL refuses them, and so does every browser.
    """
    if type(value) is JsonText:
        return str(value)  # drivers take longer for a subclass
    try:
        # Moments become ISO 8601 with Z and decimals text, as by `encode`.
        found = pydantic_core.to_json(value, timedelta_mode="float", fallback=encode)
    except pydantic_core.PydanticSerializationError:
        return _strict(encode(value))
    if b"NaN" in found or b"Infinity" in found:  # in a text, or none
        return _strict(encode(value))
    return found.decode()


def from_json(text: str | bytes) -> Any:
    """Return what JSON says. Raises: ValueError."""
    try:
        return pydantic_core.from_json(text)
    except ValueError:  # half a character of UTF-16, or no JSON at all
        return json.loads(text)


_strict = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # made once
