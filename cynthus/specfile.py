"""The text of a `cynthus.yaml` → a Spec, or every fault in it with its line: the door to YAML.

Only a strict part of YAML is read, and by PyYAML's own pure parser everywhere, so that a file means
the same on every machine. Parsing stops at events: nothing is constructed, resolved or expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from cynthus.nodes import (
    REFUSED_CHARACTER,
    Broken,
    Faults,
    Group,
    Mark,
    Node,
    Place,
    Scalar,
    Sequence,
    harmless,
)
from cynthus.spec import Spec
from cynthus.specreader import read_spec

if TYPE_CHECKING:  # absent where PyYAML was built without libyaml
    from yaml._yaml import Mark as CMark

LARGEST_FILE = 64 * 1024  # spec.md; the longest useful spec is a few kilobytes
DEEPEST = 20  # spec.md; the deepest place of a spec lies at 4
_GIVE_UP_DEPTH = 60  # beyond this nothing is a spec any more, and the scanner's work is bounded


def parse(text: bytes, path: str) -> Spec:
    """Return the Spec that a file means.

    `path` is only shown in messages. Raises: UserError with all faults of the file, in order.
    """
    faults = Faults(harmless(path))
    tree = read_tree(text, faults)
    spec = read_spec(Place(node=tree, where="", faults=faults)) if tree else None
    if spec is None or faults.found:
        raise faults.error()
    return spec


def read_tree(
    text: bytes,
    faults: Faults,
    *,
    what: str = "a spec",
    do: str = "Run `cynthus init` to write one",
) -> Node | None:
    """Return the file's tree, as far as it can be read; what is wrong goes to `faults`.

    `what` the file should hold, and what to `do`, is said of an empty one.
    """
    if len(text) > LARGEST_FILE:
        found = f"{len(text)} bytes"
        _note(
            faults,
            f"should be at most {LARGEST_FILE} bytes, found {found}. Move text into a script",
        )
        return None
    if text.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        _note(faults, "should be UTF-8, found UTF-16 or UTF-32. Save the file as UTF-8")
        return None
    decoded = _without_refused_characters(_decode(text, faults), faults)
    tree = _build(decoded, faults)
    if tree is None and not faults.found:
        _note(faults, f"should hold {what}, found nothing. {do}")
    return tree


def _note(faults: Faults, message: str, mark: Mark = Mark(1, 1)) -> None:  # noqa: B008 - frozen
    faults.add(mark, "", f"{message}.")


# --- characters ----------------------------------------------------------------------------


def _decode(text: bytes, faults: Faults) -> str:
    """Return the text; bytes that are no UTF-8 become a character that is refused silently.

    A byte order mark at the very start is dropped, since some editors always write one.
    """
    body = text.removeprefix(b"\xef\xbb\xbf")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        before = body[: error.start].decode("utf-8")
        _note(
            faults,
            f"should be UTF-8, found the byte 0x{body[error.start]:02x}. Save the file as UTF-8",
            _mark_of(before, len(before)),
        )
        # A noncharacter cannot come out of valid UTF-8 by accident.
        return body.decode("utf-8", errors="replace").replace("\ufffd", REFUSED_CHARACTER)


# C0 but tab and line ends, DEL, C1, line ends that only YAML 1.1 knows, a lone carriage return,
# marks that turn the reading direction (https://trojansource.codes), byte order marks,
# noncharacters, and surrogates.
_REFUSED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
    "\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff" + REFUSED_CHARACTER + "]|\r(?!\n)"
)


def refused_character(text: str) -> str | None:
    """Return the first character that no value may hold, or None."""
    found = _REFUSED.search(text.replace("\r\n", "\n"))
    return None if found is None else found[0]


def _without_refused_characters(text: str, faults: Faults) -> str:
    for match in _REFUSED.finditer(text):
        if match[0] != REFUSED_CHARACTER:
            _note(
                faults,
                f"should be plain text, found the character U+{ord(match[0]):04X}. Remove it",
                _mark_of(text, match.start()),
            )
        if faults.full:
            break
    return _REFUSED.sub(REFUSED_CHARACTER, text)


def _mark_of(text: str, index: int) -> Mark:
    line_start = text.rfind("\n", 0, index) + 1
    return Mark(text.count("\n", 0, index) + 1, index - line_start + 1)


# --- events → tree -------------------------------------------------------------------------


class _Events(Reader, Scanner, Parser):
    """PyYAML's pure parser, without anything that builds objects."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


@dataclass
class _Open:
    """A list or group whose end has not come yet."""

    mark: Mark
    is_group: bool
    nodes: list[Node] = field(default_factory=list)

    def close(self, *, complete: bool) -> Node:
        if not self.nodes and not complete:
            return Broken(mark=self.mark)  # nothing is known of it
        if not self.is_group:
            return Sequence(mark=self.mark, items=tuple(self.nodes))
        keys, values = self.nodes[::2], self.nodes[1::2]
        pairs = tuple(zip(keys, values, strict=False))  # a key at the break has no value
        return Group(mark=self.mark, pairs=pairs, complete=complete)


class _TooDeep(Exception):  # noqa: N818 - never leaves this file
    pass


def _build(text: str, faults: Faults) -> Node | None:
    """Return the first document's tree; where the text breaks off, what came before."""
    builder = _Builder(faults)
    events = _Events(text)
    try:
        for event in _events(events):
            if not builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        builder.broken_off(_place(mark), _remedy(error.problem or "") + _opened(error))
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets `chr` and `int` raise on an escape or a directive that is too large.
        builder.broken_off(_place(events.get_mark()), "Check escapes and directives here")
    except _TooDeep:
        builder.give_up()
    return builder.root


def _opened(error: yaml.MarkedYAMLError) -> str:
    """Say where a bracket, quote or group began when that is on another line."""
    began, noticed = error.context_mark, error.problem_mark
    if began is None or noticed is None or began.line == noticed.line:
        return ""
    return f"; what is open here began on line {began.line + 1}"


def _events(parser: _Events) -> Iterator[yaml.Event]:
    while parser.check_event():
        yield parser.get_event()  # type: ignore[no-untyped-call]  # as the stubs have it


def _place(mark: yaml.Mark | CMark | None) -> Mark:
    if mark is None:  # the stubs allow it; the parser always sets one
        return Mark(1, 1)
    return Mark(mark.line + 1, mark.column + 1)


class _Builder:
    """Turns events into nodes without recursion, and refuses what a spec has no use for."""

    def __init__(self, faults: Faults) -> None:
        self.root: Node | None = None
        self._faults = faults
        self._open: list[_Open] = []
        self._skipped_depth = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> bool:
        """Handle one event; return whether to go on."""
        if isinstance(event, yaml.DocumentStartEvent):
            return self._document(event)
        if isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()
        return True

    def _document(self, event: yaml.DocumentStartEvent) -> bool:
        self._documents += 1
        if self._documents > 1:
            message = (
                "should be one document, found a second. Remove the `---` line and what follows"
            )
            _note(self._faults, message, _place(event.start_mark))
            return False
        if event.tags:
            message = "should have no %TAG line, found one. Remove it"
            _note(self._faults, message, _place(event.start_mark))
        return True

    def _alias(self, event: yaml.AliasEvent) -> None:
        mark = _place(event.start_mark)
        do = "Write the value out; a text that begins with `*` needs quotes"
        _note(self._faults, f"should be a value, found an alias (`*`). {do}", mark)
        self._add(Broken(mark=mark))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        mark = _place(event.start_mark)
        text = _with_pairs_joined(event.value)
        clean = self._without_extras(event, mark)
        if not self._text_is_clean(text, mark) or not clean:
            self._add(Broken(mark=mark))
            return
        self._add(Scalar(mark=mark, text=text, plain=event.style is None))

    def _without_extras(self, event: yaml.NodeEvent, mark: Mark) -> bool:
        """Refuse anchors and tags; say whether the node is still what it looks like."""
        if event.anchor is not None:
            do = "Remove it; a text that begins with `&` needs quotes"
            _note(self._faults, f"should have no anchor (`&`), found one. {do}", mark)
        tag = getattr(event, "tag", None)
        if tag is not None:
            do = "Remove it; a text that begins with `!` needs quotes"
            _note(self._faults, f"should have no tag (`!`), found one. {do}", mark)
        return event.anchor is None and tag is None

    def _text_is_clean(self, text: str, mark: Mark) -> bool:
        """Refuse what escapes bring in; raw characters were refused before."""
        found = refused_character(text)
        if found is None:
            return True
        if found != REFUSED_CHARACTER:
            number = f"U+{ord(found):04X}"
            message = f"should be plain text, found an escape for the character {number}. Remove it"
            _note(self._faults, message, mark)
        return False

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mark = _place(event.start_mark)
        depth = len(self._open) + self._skipped_depth
        if depth == DEEPEST:
            _note(
                self._faults,
                f"should be nested at most {DEEPEST} deep, found more. Write it flatter",
                mark,
            )
        if depth >= _GIVE_UP_DEPTH:
            raise _TooDeep
        self._without_extras(event, mark)
        if depth >= DEEPEST:
            self._skipped_depth += 1
            return
        self._open.append(_Open(mark, is_group=isinstance(event, yaml.MappingStartEvent)))

    def _end(self) -> None:
        if not self._skipped_depth:
            self._add(self._open.pop().close(complete=True))
            return
        self._skipped_depth -= 1
        if not self._skipped_depth:
            self._add(Broken(mark=self._open[-1].mark))

    def _add(self, node: Node) -> None:
        if self._skipped_depth:
            return
        if self._open:
            self._open[-1].nodes.append(node)
        else:
            self.root = node

    def broken_off(self, mark: Mark, do: str) -> None:
        """Note that the text cannot be read from here on, and keep what came before."""
        _note(self._faults, f"should be valid YAML, found something else here. {do}", mark)
        self.give_up()

    def give_up(self) -> None:
        """Close what is open, as incomplete."""
        self._skipped_depth = 0
        while self._open:
            self._add(self._open.pop().close(complete=False))


_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _with_pairs_joined(text: str) -> str:
    """Join what JSON writes as two escapes into the one character it means."""
    return _SURROGATE_PAIR.sub(
        lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text
    )


# What PyYAML calls a problem → what to do about it. Its own words may quote the file (a tag's
# handle, a directive), so they are matched and never shown.
_REMEDIES = (
    (
        "cannot start any token",
        "Indent with spaces, and put text that begins with a special sign in quotes",
    ),
    (
        "mapping values are not allowed",
        "Put text that holds `: ` in quotes, or mend the indentation",
    ),
    ("could not find expected ':'", "Write `key: value`, with a space after the colon"),
    ("expected <block end>", "Mend the indentation: keys of one group start in one column"),
    ("block sequence entries are not allowed", "Put the list on the next line, indented"),
    ("sequence entries are not allowed", "Put the list on the next line, indented"),
    ("unexpected end of stream", "Close the quotes"),
    ("unknown escape character", "Double the backslash, or use single quotes"),
    ("hexadecimal numbers", "Mend the escape, or use single quotes"),
    ("expected ',' or", "Close the bracket, or write a comma between the entries"),
    ("did not find expected", "Close the bracket, or mend the indentation"),
    ("expected the node content", "Write a value here"),
    ("tag", "Remove the tag; a text that begins with `!` needs quotes"),
    ("anchor", "Remove it; a text that begins with `&` or `*` needs quotes"),
    ("directive", "Remove the line that begins with `%`"),
    ("YAML", "Remove the line that begins with `%`"),
    ("document start", "Remove the line that begins with `%`, or write `---` alone on its line"),
    ("indentation", "Mend the indentation of the text block"),
    ("comment or a line break", "Start the text on the line after `|` or `>`"),
)


def _remedy(problem: str) -> str:
    for part, do in _REMEDIES:
        if part in problem:
            return do
    return "Mend the line, or put the text in quotes"
