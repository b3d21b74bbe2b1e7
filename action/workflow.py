"""Speak GitHub's workflow commands: annotations, masks, groups, outputs, the step summary.

The formats and their escaping are GitHub's own:
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from cynthus.errors import Fault

SUMMARY_LIMIT_BYTES = 1024 * 1024  # GitHub refuses the whole summary above 1 MiB a step
ANNOTATION_LIMIT = 10  # GitHub keeps 10 errors and 10 warnings a step


class Console(Protocol):
    """Where the work tells a person how it goes: a GitHub job, or a terminal."""

    def say(self, text: str) -> None:
        """Print a sentence of ours."""

    def quote(self, line: str) -> None:
        """Print a line that others wrote, so that nothing in it takes effect."""

    def phase(self, title: str) -> AbstractContextManager[None]:
        """Fold what is printed inside under a title."""

    def notice(self, text: str) -> None:
        """Tell a person something they should know."""

    def warning(self, text: str, place: Place | None = None) -> None:
        """Tell a person something they should change."""

    def error(self, text: str, place: Place | None = None) -> None:
        """Tell a person why this failed."""

    def mask(self, secret: str) -> None:
        """Keep a value out of everything that is printed from now on."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A spot in a file of the repository; lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None
    title: str | None = None


def place_of(fault: Fault) -> Place:
    """Return where a fault of the spec is."""
    return Place(file=fault.path, line=fault.line, column=fault.column, title=fault.where or None)


# ── formats: pure ───────────────────────────────────────────────────────────────────────────────


def command(name: str, text: str, properties: Mapping[str, str | int | None] | None = None) -> str:
    """Return one workflow command line."""
    given = {key: value for key, value in (properties or {}).items() if value not in (None, "")}
    listed = ",".join(f"{key}={escape_property(str(value))}" for key, value in given.items())
    return f"::{name}{' ' + listed if listed else ''}::{escape_data(text)}"


def escape_data(text: str) -> str:
    """Escape a command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape the value of a command's property."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def annotation(level: str, text: str, place: Place | None = None) -> str:
    """Return the command that puts a message on a line of a file."""
    text = _plain(text)
    if place is None:
        return command(level, text)
    properties = {
        "title": place.title,
        "file": place.file,
        "line": place.line,
        "col": place.column,
    }
    return command(level, text, properties)


def output_entry(name: str, value: str, delimiter: str) -> str:
    """Return what is appended to $GITHUB_OUTPUT for one output."""
    if delimiter in name or delimiter in value:
        raise ValueError("the delimiter should not occur in what it delimits")
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def cut_summary(text: str, limit_bytes: int = SUMMARY_LIMIT_BYTES) -> str:
    """Shorten a summary to what GitHub takes, from the middle, saying so."""
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    mark = "\n\n… cut here: a step summary may have 1 MiB …\n\n"
    half = (limit_bytes - len(mark.encode())) // 2
    head = encoded[:half].decode(errors="ignore")
    return head + mark + encoded[-half:].decode(errors="ignore")


def markdown_text(text: str) -> str:
    """Return others' text so that Markdown, HTML and mentions in it do nothing."""
    out = "".join(f"&#{ord(sign)};" if sign in _MARKDOWN else sign for sign in text)
    return " ".join(out.split())


_MARKDOWN = frozenset("\\`*_{}[]()<>#+!|~@&$^=:")


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the values of secrets, the longest first: one may hold another."""
    for secret in sorted(filter(str.strip, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def printable(line: str) -> str:
    """Return a line without control characters: a terminal obeys them, and CR hides text."""
    return "".join(sign if sign.isprintable() or sign == "\t" else "�" for sign in line)


def _plain(text: str) -> str:
    """Return an annotation's lines without control characters: others' words may be in it."""
    return "\n".join(printable(line) for line in text.splitlines())


# ── a job on GitHub ─────────────────────────────────────────────────────────────────────────────


class JobConsole:
    """Print to a GitHub job's log, which obeys commands at the start of a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._quoting: str | None = None
        self._told = {"error": 0, "warning": 0}

    def say(self, text: str) -> None:
        """Print a sentence of ours; it may carry others' words, so it too is quoted if need be."""
        for line in text.splitlines() or [""]:
            if "::" in line or "##[" in line:
                self.quote(line)
            else:
                self._print(printable(line))

    def quote(self, line: str) -> None:
        """Print a line with commands switched off by a word nobody can guess."""
        if self._quoting is None:
            self._quoting = secrets.token_hex(16)
            self._out.write(f"::stop-commands::{self._quoting}\n")
        self._out.write(printable(line) + "\n")
        self._out.flush()

    def _print(self, line: str) -> None:
        if self._quoting is not None:
            self._out.write(f"::{self._quoting}::\n")
            self._quoting = None
        self._out.write(line + "\n")
        self._out.flush()

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Fold what is printed inside."""
        self._print(command("group", printable(title)))
        try:
            yield
        finally:
            self._print("::endgroup::")

    def notice(self, text: str) -> None:
        """Annotate the job."""
        self._print(command("notice", _plain(text), {"title": "Cynthus"}))

    def warning(self, text: str, place: Place | None = None) -> None:
        """Annotate a line, or the job."""
        self._annotate("warning", text, place)

    def error(self, text: str, place: Place | None = None) -> None:
        """Annotate a line, or the job."""
        self._annotate("error", text, place)

    def _annotate(self, level: str, text: str, place: Place | None) -> None:
        self._told[level] += 1
        if self._told[level] > ANNOTATION_LIMIT:  # more are dropped without a word: print them
            where = f"{place.file}:{place.line}: " if place else ""
            self.say(f"{level}: {where}{text}")
            return
        self._print(annotation(level, text, place))

    def mask(self, secret: str) -> None:
        """Have the runner replace a value by *** from now on."""
        for line in secret.splitlines():
            if line.strip():  # GitHub masks line by line; an empty mask would hide everything
                self._print(command("add-mask", line))


# ── a terminal ──────────────────────────────────────────────────────────────────────────────────


class PlainConsole:
    """Print for a person, or for the program that started us, in plain lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._secrets: list[str] = []

    def say(self, text: str) -> None:
        """Print text."""
        for line in text.splitlines() or [""]:
            self.quote(line)

    def quote(self, line: str) -> None:
        """Print a line without control characters."""
        self._out.write(printable(hidden(line, self._secrets)) + "\n")
        self._out.flush()

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Print a title."""
        self.say(title)
        yield

    def notice(self, text: str) -> None:
        """Print a notice."""
        self.say(f"notice: {text}")

    def warning(self, text: str, place: Place | None = None) -> None:
        """Print a warning with its place."""
        self.say(f"warning: {_at(place)}{text}")

    def error(self, text: str, place: Place | None = None) -> None:
        """Print an error with its place."""
        self.say(f"error: {_at(place)}{text}")

    def mask(self, secret: str) -> None:
        """Hide a value in what is printed from now on."""
        if secret.strip():
            self._secrets.append(secret)


def _at(place: Place | None) -> str:
    if place is None:
        return ""
    numbers = "".join(f":{n}" for n in (place.line, place.column) if n is not None)
    title = f"{place.title}: " if place.title else ""
    return f"{place.file}{numbers}: {title}"


# ── files that the runner reads after the step ──────────────────────────────────────────────────


def write_outputs(path: Path | None, outputs: Mapping[str, str]) -> None:
    """Append the step's outputs to $GITHUB_OUTPUT."""
    if path is None:
        return
    delimiter = f"cynthus_{secrets.token_hex(16)}"
    text = "".join(output_entry(name, value, delimiter) for name, value in outputs.items())
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_summary(path: Path | None, lines: Iterable[str]) -> None:
    """Append to $GITHUB_STEP_SUMMARY, within what GitHub takes.

    Where that cannot be written nothing is raised: the log says the same, and the server that is
    told next must hear of it on a full disk too.
    """
    if path is None:
        return
    text = "\n".join(lines) + "\n"
    with suppress(OSError):
        already = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(cut_summary(text, max(SUMMARY_LIMIT_BYTES - already, 4096)))
