"""The functions that expressions may call.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions#functions
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulators.actions_globs import path_pattern
from simulators.actions_values import Value, equal, is_primitive, to_json, to_text

STATUS_FUNCTIONS = frozenset({"success", "failure", "always", "cancelled"})
_ANY = 255  # GitHub's limit on arguments
# These ask the job or its disk, so the scope brings them; the numbers are (least, most) arguments.
HOST_FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(STATUS_FUNCTIONS, (0, 0)),
    "hashfiles": (1, _ANY),
}


@dataclass(frozen=True)
class Function:
    """A pure function and how many arguments it takes."""

    call: Callable[..., Value]
    arguments: tuple[int, int]


def _contains(search: Value, item: Value) -> bool:
    if isinstance(search, list):
        return any(equal(one, item) for one in search)
    if not is_primitive(search) or not is_primitive(item):
        return False
    return to_text(item).upper() in to_text(search).upper()


def _starts_with(text: Value, start: Value) -> bool:
    both = is_primitive(text) and is_primitive(start)
    return both and to_text(text).upper().startswith(to_text(start).upper())


def _ends_with(text: Value, end: Value) -> bool:
    both = is_primitive(text) and is_primitive(end)
    return both and to_text(text).upper().endswith(to_text(end).upper())


_FORMAT_PIECE = re.compile(r"\{\{|\}\}|\{(\d+)\}|[{}]", re.ASCII)


def _format(pattern: Value, *arguments: Value) -> str:
    text = to_text(pattern)

    def piece(match: re.Match[str]) -> str:
        if match[0] in {"{{", "}}"}:
            return match[0][0]
        if match[1] is None:
            raise ValueError(f"The following format string is invalid: {text}")
        if int(match[1]) >= len(arguments):
            raise ValueError(f"The following format string references more arguments than were supplied: {text}")  # fmt: skip # noqa: E501 - GitHub's own words
        return to_text(arguments[int(match[1])])

    return _FORMAT_PIECE.sub(piece, text)


def _join(items: Value, separator: Value = ",") -> str:
    if is_primitive(items):
        return to_text(items)
    if not isinstance(items, list):
        return ""
    return (to_text(separator) if is_primitive(separator) else "").join(map(to_text, items))


def _from_json(text: Value) -> Value:
    written = to_text(text)
    if not written.strip():
        raise ValueError("Error parsing fromJson: empty input is not JSON")
    try:
        return json.loads(written)
    except ValueError as fault:
        raise ValueError(f"Error parsing fromJson: {fault}") from fault


FUNCTIONS: dict[str, Function] = {
    "contains": Function(_contains, (2, 2)),
    "startswith": Function(_starts_with, (2, 2)),
    "endswith": Function(_ends_with, (2, 2)),
    "format": Function(_format, (1, _ANY)),
    "join": Function(_join, (1, 2)),
    "tojson": Function(to_json, (1, 1)),
    "fromjson": Function(_from_json, (1, 1)),
    "case": Function(lambda *_: None, (3, _ANY)),  # lazy: the evaluator itself carries it out
}


def hash_files(workspace: Path, *patterns: Value) -> str:
    """Hash the files under the workspace that match, as `hashFiles` does; none gives ''."""
    chosen: set[Path] = set()
    files = sorted(path for path in workspace.rglob("*") if path.is_file())
    for pattern in (line for text in patterns for line in to_text(text).splitlines()):
        matching = _matching(files, workspace, pattern.strip().removeprefix("!"))
        chosen = chosen - matching if pattern.strip().startswith("!") else chosen | matching
    return _digest_of_digests(sorted(chosen)) if chosen else ""


def _matching(files: list[Path], workspace: Path, pattern: str) -> set[Path]:
    wanted = path_pattern(pattern.removeprefix("./"))
    return {file for file in files if wanted.match(file.relative_to(workspace).as_posix())}


def _digest_of_digests(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
