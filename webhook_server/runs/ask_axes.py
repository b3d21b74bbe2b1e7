"""The axes of a sweep: key=a,b,c and key=1..9..2, within bounds. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from webhook_server.runs.ask_parts import NoAsk, Rest, as_names, once, shown
from webhook_server.runs.ask_words import Word, quoted
from webhook_server.runs.asks import AskSweep

MOST_VALUES = 256  # of one axis, and combinations of all: far above what any policy lets start
_WHOLE = r"(-?(?:0|[1-9][0-9]{0,8}))"
_RANGE = re.compile(rf"{_WHOLE}\.\.{_WHOLE}(?:\.\.([1-9][0-9]{{0,8}}))?")
_LIKE_RANGE = re.compile(r"-?[0-9][^.]*(?:\.[0-9]+)?\.\.")


def read_sweep(rest: Rest) -> AskSweep:
    """Return the sweep that words ask for. Raises: NoAsk."""
    plain, pairs = rest.parted()
    names = as_names(plain)
    axes = tuple((key, _axis(key, values)) for key, values in pairs)
    if len(names) > 1 or not axes:
        raise NoAsk("A sweep is of one spec." if axes else "What to sweep over is missing.")
    count = math.prod(len(values) for _, values in axes)
    if count > MOST_VALUES:
        raise NoAsk(f"These are {count} runs; at most {MOST_VALUES} can be asked for at once.")
    return AskSweep(name=names[0] if names else None, axes=axes)


def _axis(key: str, values: Word) -> tuple[str, ...]:
    found: list[str] = []
    for part in values.parts(","):
        for value in _values(part):
            once("The value", found, value)
            found.append(value)
            if len(found) > MOST_VALUES:
                raise NoAsk(f"`{key}` has more than {MOST_VALUES} values.")
    return tuple(found)


def _values(part: Word) -> tuple[str, ...]:
    if not part.pieces:
        raise NoAsk('A value is missing beside a comma; an empty one is written `""`.')
    if not part.bare or not _LIKE_RANGE.match(part.text):
        return (part.text,)
    found = _RANGE.fullmatch(part.text)
    if found is None:
        raise NoAsk(
            f"{shown(part.text)} should be a range of whole numbers such as `1..5` or `0..10..2`; "
            "put a text that looks like one in quotes."
        )
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    numbers = range(first, last + 1, step)
    if not 1 <= len(numbers) <= MOST_VALUES:
        raise NoAsk(
            f"{shown(part.text)} should hold 1 to {MOST_VALUES} numbers, found {len(numbers)}."
        )
    return tuple(map(str, numbers))


def written_axis(key: str, values: Iterable[str]) -> str:
    """Return an axis as it must be written to give these values."""
    return f"{key}=" + ",".join(_written_value(value) for value in values)


def _written_value(value: str) -> str:
    return f'"{value}"' if _LIKE_RANGE.match(value) and '"' not in value else quoted(value, ",")
