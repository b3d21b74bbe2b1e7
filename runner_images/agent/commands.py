"""Read GitHub's workflow commands out of a run's output.

The grammar is the runner's own:
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cynthus.wire import EventKind

METRIC_NAMES = 200  # more would be a mistake in a loop; the server keeps as many
METRIC_POINTS = 50_000
ANNOTATIONS = 100  # two requests' worth of GitHub's 50; nobody reads more
NAME_LIMIT = 100
TEXT_LIMIT = 4096
LEVELS = {"notice": "notice", "warning": "warning", "error": "failure"}
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_WORDS = frozenset({"phase", "metric", "progress", "add-mask", "group", "endgroup", *LEVELS})


@dataclass(frozen=True)
class Command:
    """One line `::name key=value,key=value::data`, unescaped."""

    name: str
    properties: dict[str, str]
    data: str


def parse(line: str) -> Command | None:
    """Return the command that a line is, or None for ordinary text."""
    text = line.lstrip()
    if not text.startswith("::"):
        return None
    end = text.find("::", 2)
    if end < 0:
        return None
    name, _, rest = text[2:end].partition(" ")
    if not name:
        return None
    pairs = (part.strip().partition("=") for part in rest.split(","))
    properties = {k.strip().lower(): _unescape(v, in_property=True) for k, _, v in pairs if k and v}
    return Command(name, properties, _unescape(text[end + 2 :]))


def _unescape(text: str, *, in_property: bool = False) -> str:
    text = text.replace("%0D", "\r").replace("%0A", "\n")
    if in_property:
        text = text.replace("%3A", ":").replace("%2C", ",")
    return text.replace("%25", "%")  # last, so that an escaped escape stays one


@dataclass(frozen=True)
class Heard:
    """What a line meant: the log's text (None: nothing to show) with an event it caused."""

    shown: str | None
    kind: EventKind | None = None
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Listener:
    """Reads one run's lines in order: remembers stopped commands, counts against the limits."""

    mask: Callable[[str], bool]
    _stopped_by: str | None = None
    _names: set[str] = field(default_factory=set)
    _points: int = 0
    _annotations: int = 0
    _told: set[str] = field(default_factory=set)

    def hear(self, line: str) -> Heard:
        """Say what the line means."""
        command = parse(line)
        if command is None:
            return Heard(line)
        if self._stopped_by is not None:
            if command.name == self._stopped_by:
                self._stopped_by = None
                return Heard(None)
            return Heard(line)
        return self._obey(command, line)

    def _obey(self, command: Command, line: str) -> Heard:
        name = command.name.lower()
        if name == "stop-commands":
            return self._stop(command, line)
        if name == "add-mask":
            return self._mask(command)
        if name == "metric":
            return self._metric(command)
        if name == "progress":
            return self._progress(command)
        if name == "phase":
            phase = _one_line(command.data)
            return Heard(f"▸ {phase}", EventKind.PHASE, {"name": phase}) if phase else Heard(line)
        if name in LEVELS:
            return self._annotation(name, command)
        return Heard(line)  # `group` and `endgroup` stay: the log's reader folds by them

    def _stop(self, command: Command, line: str) -> Heard:
        token = command.data.strip()
        # As the runner: a token that is a command's name would let it be switched on by accident.
        if not token or token.lower() in _WORDS or token.lower() == "stop-commands":
            return Heard(line)
        self._stopped_by = token
        return Heard(None)

    def _mask(self, command: Command) -> Heard:
        value = command.data
        if self.mask(value):
            return Heard(None, EventKind.MASK, {"value": value})
        if not value.strip():
            return Heard(None)
        return self._notice("mask", "::add-mask:: value too short to be hidden: 4 characters least")

    def _metric(self, command: Command) -> Heard:
        name = _one_line(command.properties.get("name", ""))
        value = _number(command.data)
        step = command.properties.get("step", "")
        if not name:
            return self._notice("name", "::metric:: without name=…: left out")
        if value is None:
            return self._notice(f"value {name}", f"metric {name}: not a finite number, left out")
        if step and (not step.isascii() or not step.isdigit() or len(step) > 15):  # noqa: PLR2004 - exact in JSON
            return self._notice(f"step {name}", f"metric {name}: step is no whole number, left out")
        if name not in self._names and len(self._names) >= METRIC_NAMES:
            return self._notice("names", f"more than {METRIC_NAMES} metric names: others left out")
        if self._points >= METRIC_POINTS:
            return self._notice("points", f"more than {METRIC_POINTS} metric values: rest left out")
        self._names.add(name)
        self._points += 1
        body = {"name": name, "step": int(step) if step else None, "value": value}
        return Heard(None, EventKind.METRIC, body)

    def _progress(self, command: Command) -> Heard:
        value = _number(command.data)
        if value is None:
            return self._notice("progress", "::progress:: is no number from 0 to 1: left out")
        return Heard(None, EventKind.PROGRESS, {"value": min(1.0, max(0.0, value))})

    def _annotation(self, name: str, command: Command) -> Heard:
        shown = f"{name.capitalize()}: {command.data}"
        if self._annotations >= ANNOTATIONS:
            return Heard(shown)
        self._annotations += 1
        line = command.properties.get("line", "")
        body = {
            "level": LEVELS[name],
            "file": command.properties.get("file", "")[:TEXT_LIMIT] or None,
            "line": int(line) if line.isascii() and line.isdigit() and len(line) < 10 else None,  # noqa: PLR2004 - no file is longer
            "title": command.properties.get("title", "")[:NAME_LIMIT] or None,
            "text": command.data[:TEXT_LIMIT],
        }
        return Heard(shown, EventKind.ANNOTATION, body)

    def _notice(self, key: str, text: str) -> Heard:
        """Tell the user once of each kind of fault; a loop would repeat it a million times."""
        if key in self._told or len(self._told) >= METRIC_NAMES:
            return Heard(None)
        self._told.add(key)
        return Heard(None, EventKind.NOTICE, {"text": text})


def _one_line(text: str) -> str:
    return " ".join(text.split())[:NAME_LIMIT]


def _number(text: str) -> float | None:
    if len(text) > NAME_LIMIT or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
