"""Hold what a file declares: packages with their lines, and what cannot be followed."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from action.source import own_file
from cynthus import grammar
from cynthus.errors import Fault
from cynthus.nodes import harmless

LONGEST_FILE_BYTES = 1 << 20  # a lock of a thousand packages with hashes is half of that


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One requirement, and where it stands."""

    text: str  # as pip reads it, without hashes
    path: str
    line: int  # counts from 1
    hashes: tuple[str, ...] = ()  # `--hash=sha256:…`


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a file says, the files that it names included."""

    wishes: tuple[Wish, ...] = ()
    constraints: tuple[Wish, ...] = ()  # versions for what others want; nothing is installed for it
    python: tuple[Wish, ...] = ()  # specifiers such as `>=3.10`
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()  # what a person should know, each a sentence

    def __add__(self, other: Declared) -> Declared:
        """Return both together."""
        return Declared(
            wishes=self.wishes + other.wishes,
            constraints=self.constraints + other.constraints,
            python=self.python + other.python,
            faults=self.faults + other.faults,
            notes=self.notes + other.notes,
        )


def fault(path: str, line: int, message: str) -> Fault:
    """Return a fault on a line; what the message quotes of a file becomes printable."""
    return Fault(path=path, line=line, column=1, where="", message=harmless(message))


def refused(path: str, line: int, message: str) -> Declared:
    """Return a file's answer that is one fault."""
    return Declared(faults=(fault(path, line, message),))


def quoted(text: str) -> str:
    """Return a user's text for a message: short, and without the password of an address."""
    return re.sub(r"://[^/\s@]*@", "://", text)[:100]


def checked(wish: Wish) -> Declared:
    """Return a wish that is a name with extras, versions and a marker; for more, a fault."""
    try:
        grammar.package(wish.text)
    except grammar.Wrong as wrong:
        return refused(wish.path, wish.line, f"{wrong}, found `{quoted(wish.text)}`.")
    return Declared(wishes=(wish,))


def together(parts: Iterable[Declared]) -> Declared:
    """Return all of them as one, in their order."""
    found = tuple(parts)  # joined at once: adding them up one by one takes the square of the time
    return Declared(
        wishes=tuple(wish for part in found for wish in part.wishes),
        constraints=tuple(wish for part in found for wish in part.constraints),
        python=tuple(wish for part in found for wish in part.python),
        faults=tuple(wrong for part in found for wrong in part.faults),
        notes=tuple(note for part in found for note in part.notes),
    )


# ── reading ─────────────────────────────────────────────────────────────────────────────────────

# Windows' PowerShell writes `pip freeze > requirements.txt` in UTF-16; pip reads it by its mark:
# https://pip.pypa.io/en/stable/reference/requirements-file-format/#encoding
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the other's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read(root: Path, shown: str) -> str | Declared:
    """Return the text of a file of the repository, or the fault that keeps it from being one."""
    try:
        return decoded(own_file.read(root, shown, LONGEST_FILE_BYTES + 1), shown)
    except OSError as error:
        return refused(shown, 1, f"should be a readable file, found: {error.strerror}. Correct it.")


def decoded(raw: bytes, shown: str) -> str | Declared:
    """Return the text of a file's bytes, or the fault with the line of the first foreign byte."""
    if len(raw) > LONGEST_FILE_BYTES:
        return refused(shown, 1, "should be at most 1 MiB, found more. Shorten it.")
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return refused(shown, line, "should be UTF-8 text, found other bytes. Save it as UTF-8.")


def line_of(text: str, wanted: str, *, after: str = "") -> int:
    """Return the line where a text first stands below a header: good enough to point at."""
    lines = text.splitlines()
    below = [n for n, line in enumerate(lines, 1) if after and after in line] or [1]
    found = [n for n, line in enumerate(lines, 1) if wanted in line]
    return next((n for n in found if n >= below[0]), (found or below)[0])


def key_line(text: str, key: str, header: str) -> int:
    """Return the line of `key = …` in a TOML table, where the table begins when it is elsewhere."""
    lines = text.splitlines()
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
    headers = [n for n, line in enumerate(lines, 1) if line.strip().startswith(header)]
    if not headers:
        return line_of(text, key)
    for number in range(headers[0] + 1, len(lines) + 1):
        line = lines[number - 1]
        if line.lstrip().startswith("["):
            break
        if pattern.match(line):
            return number
    return headers[0]
