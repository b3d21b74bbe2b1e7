"""Understand what a step says to its runner: lines on standard output and env files.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

COMMANDS = frozenset(
    {
        "add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group",
        "notice", "remove-matcher", "save-state", "set-env", "set-output", "stop-commands",
        "warning",
    }
)  # fmt: skip
LEVELS = {"error": "failure", "warning": "warning", "notice": "notice"}
MOST_ISSUES = 10  # of one level in one step, as the runner counts
_SHORTEST_MASK = 1


@dataclass(frozen=True)
class Command:
    """One `::name key=value::data` line."""

    name: str
    properties: dict[str, str]
    data: str


def parse_command(line: str) -> Command | None:
    """Read a line as the runner does; an unknown name makes it ordinary output (None)."""
    text = line.lstrip()
    if not text.startswith("::"):
        return None
    end = text.find("::", 2)
    if end < 0:
        return None
    name, _, written = text[2:end].partition(" ")
    return Command(name.lower(), _properties(written), unescape_data(text[end + 2 :]))


def _properties(written: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in written.split(","))
    return {key: unescape_property(value) for key, _, value in pairs if key and value}


def unescape_data(text: str) -> str:
    """Undo the three escapes of data; `%25` last, so that `%250A` stays text."""
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def unescape_property(text: str) -> str:
    """Undo the five escapes of properties."""
    for written, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")):
        text = text.replace(written, meant)
    return text.replace("%25", "%")


@dataclass
class StopState:
    """Whether commands are understood now, and the word that starts them again."""

    token: str = ""

    def read(self, line: str) -> Command | None:
        """Read a line, honouring `stop-commands`."""
        command = parse_command(line)
        if command is None:
            return None
        if self.token:
            self.token = "" if command.name == self.token.lower() else self.token
            return None
        if command.name == "stop-commands":
            self.token = command.data.strip()
        return command if command.name in COMMANDS else None


@dataclass
class Masks:
    """Values that no log may show."""

    _values: set[str] = field(default_factory=set)

    def add(self, value: str) -> None:
        """Hide a value, each of its lines, and the forms in which programs often write it."""
        for line in {value, *value.splitlines()}:
            if len(line.strip()) >= _SHORTEST_MASK:
                self._values |= _forms(line.strip("\r\n"))

    def hide(self, text: str) -> str:
        """Replace every masked value by `***`, the longest first."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text


def _forms(value: str) -> set[str]:
    encoded = base64.b64encode(value.encode()).decode()
    quoted = json.dumps(value)[1:-1]
    return {value, quoted, encoded, urllib.parse.quote(value, safe="")}


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One annotation, in the words of GitHub's checks API."""

    path: str
    start_line: int
    end_line: int
    start_column: int | None
    end_column: int | None
    annotation_level: str
    title: str
    message: str

    def json(self) -> dict[str, object]:
        """Give the API's object; columns are left out where there are none."""
        return {key: value for key, value in vars(self).items() if value is not None}


def annotation(command: Command) -> Annotation:
    """Turn an error, warning or notice into an annotation, on `.github` without a file."""
    said = command.properties
    line = _positive(said.get("line")) or 1
    end = max(line, _positive(said.get("endLine")) or line)
    column = _positive(said.get("col"))
    same_line = line == end  # the checks API takes columns on one line only
    return Annotation(
        path=said.get("file") or ".github",
        start_line=line,
        end_line=end,
        start_column=column if same_line else None,
        end_column=(_positive(said.get("endColumn")) or column) if same_line and column else None,
        annotation_level=LEVELS[command.name],
        title=said.get("title", ""),
        message=command.data,
    )


def plain_annotation(level: str, message: str) -> Annotation:
    """Make the annotation that the runner itself adds, such as the exit code of a step."""
    return annotation(Command(level, {}, message))


def _positive(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) and int(text) > 0 else None


class FileCommandError(Exception):
    """An env file that the runner refuses, in its words."""


def parse_env_file(text: str) -> list[tuple[str, str]]:
    """Read `name=value` and `name<<DELIMITER` entries."""
    entries: list[tuple[str, str]] = []
    lines = iter(re.split(r"\r\n|\n", text))
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            entries.append(_assignment(line))
        elif heredoc >= 0:
            name, delimiter = _heredoc(line)
            entries.append((name, _until(lines, delimiter)))
        else:
            raise FileCommandError(f"Invalid format '{line}'")
    return entries


def _assignment(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    if not name:
        raise FileCommandError(f"Invalid format '{line}'. Name must not be empty")
    return name, value


def _heredoc(line: str) -> tuple[str, str]:
    name, _, delimiter = line.partition("<<")
    if not name or not delimiter:
        raise FileCommandError(f"Invalid format '{line}'. Name must not be empty and delimiter must not be empty")  # fmt: skip # noqa: E501 - the runner's own words
    return name, delimiter


def _until(lines: Iterator[str], delimiter: str) -> str:
    collected: list[str] = []
    for line in lines:
        if line == delimiter:
            return "\n".join(collected)
        collected.append(line)
    raise FileCommandError(f"Invalid value. Matching delimiter not found '{delimiter}'")
