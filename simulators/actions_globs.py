"""GitHub's glob patterns, as regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


@lru_cache(maxsize=256)
def filter_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of `branches`, `tags` or `paths`.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        piece, at = _filter_piece(pattern, at, first=not out)
        out.append(piece)
    return re.compile("".join(out) + r"\Z")


def _filter_piece(pattern: str, at: int, *, first: bool) -> tuple[str, int]:
    character = pattern[at]
    if pattern.startswith("**/", at):
        return "(?:.*/)?" if first or pattern[at - 1] == "/" else ".*/", at + 3
    if pattern.startswith("**", at):
        return ".*", at + 2
    if character == "*":
        return "[^/]*", at + 1
    if character in "?+" and not first:
        return character, at + 1  # they repeat the character before, as in a regular expression
    if character == "[" and "]" in pattern[at:]:
        end = pattern.index("]", at)
        return pattern[at : end + 1], end + 1
    if character == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), at + 2
    return re.escape(character), at + 1


def matches_filters(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Say whether any name passes; later patterns win, and `!` takes back."""
    return any(_passes(name, patterns) for name in names)


def _passes(name: str, patterns: Sequence[str]) -> bool:
    verdict = False
    for pattern in patterns:
        if filter_pattern(pattern.removeprefix("!")).match(name):
            verdict = not pattern.startswith("!")
    return verdict


def path_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of `hashFiles`, where `?` is one character, as in @actions/glob."""
    out = ""
    for piece in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
            piece, re.escape(piece)
        )
    return re.compile(out + r"(?:/.*)?\Z")
