"""Read keys, texts, amounts and lists of a YAML file's tree, noting every fault on the way.

Each reader returns the value, or None once it has noted what is wrong: one fault never hides
another. The readers of the spec and of a repository's policy are made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from cynthus import grammar
from cynthus.grammar import Wrong
from cynthus.nodes import Broken, Group, Node, Place, Scalar, Sequence, shown

T = TypeVar("T")
Reader = Callable[[Place], T | None]
Fields = dict[str, Place]

# Looking for near names costs 0.1 ms a key, and nobody reads the hundredth guess: a file of nothing
# but unknown keys would take a second.
GUESSED = 100


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A file's own words, for what a reader says of unknown and missing keys."""

    sections: Mapping[str, tuple[str, ...]]  # where a misplaced key may belong, and their keys
    synonyms: Mapping[str, str]  # the field's other words for ours
    examples: Mapping[tuple[str, str], str]  # (section, required key) → a line with it


def read_key(fields: Fields, key: str, reader: Reader[T], default: T) -> T:
    """Return a key's value; the default where it is absent or has a fault."""
    if key not in fields:
        return default
    value = reader(fields[key])
    return default if value is None else value


def group(
    vocabulary: Vocabulary,
    place: Place,
    keys: tuple[str, ...],
    required: tuple[str, ...] = (),
    what: str = "a group",
) -> Fields | None:
    """Return the places of a group's known keys; note unknown, repeated and missing ones."""
    node = place.node
    if not isinstance(node, Group):
        names = ", ".join(f"`{key}`" for key in keys)
        place.fault(
            f"{what} with keys such as {names}"[:200], f"Write `{(required or keys)[0]}:` under it"
        )
        return None
    fields: Fields = {}
    for name, key, value in pairs_of(place, node):
        if name in keys:
            fields[name] = place.value(name, value)
        else:
            _unknown_key(vocabulary, place, key, keys)
    if node.complete:
        _check_missing(vocabulary, place, fields, required)
    return fields


def pairs_of(place: Place, node: Group) -> Iterator[tuple[str, Node, Node]]:
    """Yield names, keys and values; repeated keys and keys that are no text are noted."""
    lines: dict[str, int] = {}
    for number, (key, value) in enumerate(node.pairs, start=1):
        key_place = Place(node=key, where=place.where, faults=place.faults, hidden=place.hidden)
        name = _key_name(key_place, value)
        if name is None:
            continue
        if name in lines:
            found = f"key number {number} again" if place.hidden else f"{shown(name)} again"
            key_place.fault(
                "a key of its own", f"Remove it: it stands on line {lines[name]} already", found
            )
            continue
        lines[name] = key.mark.line
        yield name, key, value


def _key_name(place: Place, value: Node) -> str | None:
    node = place.node
    if isinstance(node, Broken):
        return None
    if not isinstance(node, Scalar):
        place.fault("a key that is plain text", "Write `key: value`")
        return None
    if node.plain and node.text == "<<":
        if not isinstance(value, Broken):  # an alias was reported already
            place.fault(
                "a key", "Merge keys are not read; write the keys out", "a merge key (`<<`)"
            )
        return None
    if not node.reading.is_text:
        place.fault("a key that is text", "Put the key in quotes")
        return None
    return node.text


def _unknown_key(vocabulary: Vocabulary, place: Place, key: Node, keys: tuple[str, ...]) -> None:
    key_place = Place(node=key, where=place.where, faults=place.faults)
    guess = len(place.faults.found) < GUESSED
    key_place.fault("a known key", _key_remedy(vocabulary, key_place, keys, guess=guess))


def _key_remedy(vocabulary: Vocabulary, place: Place, keys: tuple[str, ...], *, guess: bool) -> str:
    import difflib

    word = place.node.text.lower().replace("-", "_")[:60] if isinstance(place.node, Scalar) else ""
    near = vocabulary.synonyms.get(word, word)
    if near not in keys and guess:
        near = next(iter(difflib.get_close_matches(near, keys, n=1)), near)
    if near in keys:
        return f"Did you mean `{near}`? Write that, or remove the key"
    for section, known in vocabulary.sections.items():
        if near in known and section != place.where:
            return f"Write `{near}` " + (f"under `{section}`" if section else "at the top level")
    return "Remove it, or write one of " + ", ".join(f"`{key}`" for key in keys)


def _check_missing(
    vocabulary: Vocabulary, place: Place, fields: Fields, required: tuple[str, ...]
) -> None:
    present = set(fields)
    for key in required:
        if key not in present:
            example = vocabulary.examples[(place.where.rstrip("/0123456789"), key)]
            at = place.value(key, place.node)
            at.fault("present", f"Write `{example}`", "nothing")


def text_of(place: Place) -> str | None:
    """Return text; a plain word that YAML reads as something else is refused."""
    node = place.node
    if not isinstance(node, Scalar):
        place.fault("text", "Write text here")
        return None
    if not node.reading.is_text:
        place.fault("text", _quote_remedy(place, node))
        return None
    return node.text


def _quote_remedy(place: Place, node: Scalar) -> str:
    if not node.text:
        return "Write a text after the colon" + (
            ', or `""`' if place.hidden else ", or remove the key"
        )
    if place.hidden or len(node.text) > 40:  # noqa: PLR2004 - a long word is not repeated
        return "Put it in quotes"
    return f"Put it in quotes: `{shown(node.text)}`"


def words(read: Callable[[str], T]) -> Reader[T]:
    """Return a reader for text that a grammar must accept."""

    def reader(place: Place) -> T | None:
        text = text_of(place)
        return None if text is None else by_grammar(place, text, read)

    return reader


def by_grammar(place: Place, text: str, read: Callable[[str], T]) -> T | None:
    """Return what a grammar makes of the text."""
    try:
        return read(text)
    except Wrong as wrong:
        place.wrong(wrong)
        return None


def whole(low: int, high: int, example: str) -> Reader[int]:
    """Return a reader for a plain whole number."""

    def reader(place: Place) -> int | None:
        node = place.node
        number = None
        if isinstance(node, Scalar) and node.plain:
            number = grammar.whole_number(node.text)
        if number is None or not low <= number <= high:
            place.fault(f"a whole number from {low} to {high}", f"Write `{example}`")
            return None
        return number

    return reader


def list_of(
    place: Place, reader: Reader[T], most: int, *, what: str, least: int = 0
) -> tuple[T, ...] | None:
    """Return a list's items; an item with a fault is left out."""
    if not isinstance(place.node, Sequence):
        place.fault(f"a list of {what}", "Write each on its own line after `- `")
        return None
    count = len(place.node.items)
    if not least <= count <= most:
        do = "Write fewer" if count else "Write one, or remove the key"
        place.fault(f"a list of {least} to {most} {what}", do, str(count))
        return None
    values = (reader(item) for item in place.items())
    return tuple(value for value in values if value is not None)


def distinct(place: Place, values: tuple[T, ...] | None, what: str) -> tuple[T, ...] | None:
    """Refuse a value that is there twice; counts only when no item had a fault."""
    if values is None or len(values) != len(list(place.items())):
        return values
    seen: set[T] = set()
    for item, value in zip(place.items(), values, strict=True):
        if value in seen:
            item.fault(f"{what} of its own", "Remove it: it is in the list already")
        seen.add(value)
    return values


def text_list(
    read: Callable[[str], T], most: int, what: str, least: int = 0
) -> Reader[tuple[T, ...]]:
    """Return a reader for a list of texts, each once, that a grammar must accept."""

    def reader(place: Place) -> tuple[T, ...] | None:
        values = list_of(place, words(read), most, what=what, least=least)
        return distinct(place, values, "an entry")

    return reader


def amount_text(place: Place, wanted: str, example: str) -> str | None:
    """Return an amount with a unit; a bare number is no text, and its message names the unit."""
    node = place.node
    if not isinstance(node, Scalar) or not node.text:
        place.fault(wanted, f"Write `{example}`")
        return None
    return node.text


def size(place: Place) -> int | None:
    """Return bytes."""
    text = amount_text(place, "a size with its unit", "16GB")
    return None if text is None else by_grammar(place, text, grammar.size)


def duration(place: Place) -> timedelta | None:
    """Return a length of time above zero."""
    text = amount_text(place, "a length of time", "2h")
    if text is None:
        return None
    return by_grammar(place, text, lambda word: grammar.duration(word, grammar.LONGEST_DURATION))


def duration_or_zero(place: Place) -> timedelta | None:
    """Return a length of time of at most a week; a plain `0` is meant."""
    text = amount_text(place, "a length of time", "10m")
    if text is None:
        return None
    if text == "0" and isinstance(place.node, Scalar) and place.node.plain:
        return timedelta(0)
    longest = grammar.LONGEST_KEEP_WARM
    return by_grammar(place, text, lambda word: grammar.duration(word, longest, zero_is_meant=True))


def checkpoint_interval(place: Place) -> timedelta | None:
    """Return a length of time of at least ten seconds."""
    text = amount_text(place, "a length of time", "5m")
    return None if text is None else by_grammar(place, text, grammar.checkpoint_interval)


def money(example: str) -> Reader[Decimal]:
    """Return a reader for US dollars; `example` is a whole line such as `max_cost: 5.00`."""

    def reader(place: Place) -> Decimal | None:
        node = place.node
        if isinstance(node, Scalar) and node.plain:
            return by_grammar(place, node.text, grammar.money)
        place.fault("US dollars as a plain number", f"Write `{example}`, without quotes or sign")
        return None

    return reader
