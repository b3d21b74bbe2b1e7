"""A YAML file as a tree with places, where every fault found in it is collected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cynthus.errors import Fault, UserError
from cynthus.grammar import NUMBER, TEXT, YES_NO, Reading, Wrong, yaml_reading

# Stands where the file held a character that was refused: a noncharacter, so no text means it.
REFUSED_CHARACTER = "\U0010ffff"
MOST_FAULTS = 200  # more than anyone mends at once, and a bound for time and log


@dataclass(frozen=True, order=True)
class Mark:
    """A place in the file; lines and columns count from 1."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One word or text; `plain` without quotes, so that YAML may read it as something else."""

    mark: Mark
    text: str
    plain: bool

    @property
    def reading(self) -> Reading:
        """Return what a YAML reader takes this for."""
        return yaml_reading(self.text) if self.plain else TEXT


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A list."""

    mark: Mark
    items: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Keys with values, in the file's order, repeated keys included.

    `complete` is False where the file broke off inside: what is missing is no fault then.
    """

    mark: Mark
    pairs: tuple[tuple[Node, Node], ...]
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Something already reported, so that nobody complains about it twice."""

    mark: Mark


Node = Scalar | Sequence | Group | Broken


@dataclass
class Faults:
    """Everything found wrong in one file."""

    path: str
    found: set[Fault] = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Return whether no more faults are taken."""
        return len(self.found) >= MOST_FAULTS

    def add(self, mark: Mark, where: str, message: str) -> None:
        """Note one fault; the same cause at the same place counts once."""
        if not self.full:
            self.found.add(
                Fault(
                    path=self.path,
                    line=mark.line,
                    column=mark.column,
                    where=where,
                    message=harmless(message),
                )
            )

    def error(self) -> UserError:
        """Return the error that carries them all, in the file's order."""
        faults = tuple(sorted(self.found))
        return UserError("\n".join(str(fault) for fault in faults), faults)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node with its path in the file; `hidden` where what stands there is never shown."""

    node: Node
    where: str
    faults: Faults
    hidden: bool = False

    def fault(self, should: str, do: str, found: str | None = None) -> None:
        """Note that this is not what it should be. A node already reported stays quiet."""
        if isinstance(self.node, Broken):
            return
        seen = found or describe(self.node, hidden=self.hidden)
        self.faults.add(self.node.mark, self.where, f"should be {should}, found {seen}. {do}.")

    def wrong(self, wrong: Wrong) -> None:
        """Note what a grammar said."""
        self.fault(wrong.should, wrong.do, wrong.found)

    def item(self, number: int, node: Node) -> Place:
        """Return the place of one item of a list."""
        return Place(
            node=node, where=f"{self.where}/{number}", faults=self.faults, hidden=self.hidden
        )

    def value(self, key: str, node: Node) -> Place:
        """Return the place of one key's value."""
        where = f"{self.where}/{key}" if self.where else key
        return Place(node=node, where=where, faults=self.faults, hidden=self.hidden)

    def items(self) -> Iterator[Place]:
        """Yield the places of a list's items."""
        if isinstance(self.node, Sequence):
            for number, node in enumerate(self.node.items):
                yield self.item(number, node)


def describe(node: Node, *, hidden: bool = False) -> str:
    """Say what a node is, in words fit for a message."""
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    if isinstance(node, Group):
        return "a group of keys" if node.pairs else "an empty group of keys"
    if isinstance(node, Broken):
        return "something that cannot be read"
    return _describe_scalar(node, hidden=hidden)


def _describe_scalar(node: Scalar, *, hidden: bool) -> str:
    reading = node.reading
    if not node.text:
        return "nothing" if node.plain else "empty text"
    if hidden:
        return reading.words
    if not node.plain:
        return f"the text {shown(node.text)}"
    if reading is NUMBER or reading.is_text:
        return shown(node.text)
    if reading is YES_NO:
        return f"{shown(node.text)}, which YAML reads as yes or no"
    return f"{shown(node.text)}, which YAML reads as {reading.words}"


_LONGEST_SHOWN = 60  # enough to recognise it, short enough for one line
_USER_INFO = re.compile(r"//[^/@\s]{0,500}@")


def shown(text: str) -> str:
    """Return user's text for a message: in quotes, short, without passwords of URLs."""
    masked = _USER_INFO.sub("//***@", text[:2000])
    cut = masked if len(masked) <= _LONGEST_SHOWN else masked[: _LONGEST_SHOWN - 1] + "…"
    return f'"{harmless(cut)}"'


def harmless(text: str) -> str:
    """Return one printable line that a GitHub runner takes for no workflow command.

    A command starts a line with `::`, or holds `##[` anywhere:
    https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    """
    line = "".join(char if char.isprintable() else _escaped(char) for char in text)
    line = line.replace("##[", "#\\x23[")
    return "\\x3a" + line.lstrip()[1:] if line.lstrip().startswith("::") else line


def _escaped(char: str) -> str:
    number = ord(char)
    if char == REFUSED_CHARACTER:
        return "\N{REPLACEMENT CHARACTER}"
    if number < 0x100:  # noqa: PLR2004 - two hex digits
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - four hex digits
