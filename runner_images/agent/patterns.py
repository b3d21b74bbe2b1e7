"""Match paths below the workspace against the spec's output patterns: pure."""

from __future__ import annotations

import re
from functools import cache

_MAGIC = re.compile(r"[*?\[]")


def fixed_part(pattern: str) -> str:
    """Return the folder or file to look in: the leading segments without a wildcard."""
    fixed: list[str] = []
    for segment in _clean(pattern).split("/"):
        if _MAGIC.search(segment):
            break
        fixed.append(segment)
    return "/".join(fixed)


def matches(pattern: str, path: str) -> bool:
    """Say whether the pattern names this file, or a folder that it lies in."""
    return _compiled(_clean(pattern)).fullmatch(path) is not None


def _clean(pattern: str) -> str:
    return "/".join(part for part in pattern.split("/") if part not in ("", "."))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    if not pattern:
        return re.compile(r".*", re.DOTALL)  # `.`: the whole workspace
    segments = pattern.split("/")
    text = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            text += ".*" if last else "(?:[^/]+/)*"
        else:
            text += _segment(segment) + ("" if last else "/")
    return re.compile(text + r"(?:/.*)?", re.DOTALL)


def _segment(segment: str) -> str:
    text, position = "", 0
    while position < len(segment):
        character = segment[position]
        closing = segment.find("]", position + 2) if character == "[" else -1
        if closing > 0:
            inside = segment[position + 1 : closing].replace("\\", "\\\\")
            text += "[" + ("^/" + inside[1:] if inside[0] in "!^" else inside) + "]"
            position = closing
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        position += 1
    return text
