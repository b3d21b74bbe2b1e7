"""Translate Poetry's way to write dependencies into pip's. Pure.

The rules: https://python-poetry.org/docs/dependency-specification/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_CARET_TILDE = re.compile(
    r"(?P<sign>[\^~])\s*v?(?P<release>[0-9]+(?:\.[0-9]+)*)"
    r"(?P<rest>[-_.]?(?:alpha|a|beta|b|c|rc|pre|dev|post)[-_.]?[0-9]*)?"
)
_STARRED = re.compile(r"(?P<sign>==|!=)?\s*(?P<release>[0-9]+(?:\.[0-9]+)*)(?:\.[*xX])+")
_PLAIN = re.compile(r"(?P<sign>===|==|!=|~=|<=|>=|<|>|=)?\s*(?P<version>v?[0-9][A-Za-z0-9.!+_-]*)")
_TOKEN = re.compile(r"\s*((?:[\^~<>=!]=?=?)?\s*[^\s,^~<>=!|]+)\s*,?")


class Untranslatable(Exception):  # noqa: N818 - it reads as a type: caught at the line
    """The text has no counterpart in pip's words; the message ends a sentence after "found"."""


def specifiers(constraint: str) -> str:
    """Return a version constraint in pip's words; empty for any version.

    Raises: Untranslatable.
    """
    text = constraint.strip()
    if text in {"", "*"}:
        return ""
    if "|" in text:
        raise Untranslatable(f"`{constraint}`, alternatives that pip cannot say")
    return ",".join(part for clause in _split(text) if (part := _clause(clause)))


def _split(text: str) -> list[str]:
    """Split at commas and spaces: both mean "and"."""
    parts, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise Untranslatable(f"`{text}`, no version constraint")
        parts.append(match[1])
        at = match.end()
    return parts


def _clause(text: str) -> str:
    if text == "*":
        return ""
    if match := _CARET_TILDE.fullmatch(text):
        numbers = tuple(int(part) for part in match["release"].split("."))
        limit = _caret(numbers) if match["sign"] == "^" else _tilde(numbers)
        return f">={match['release']}{match['rest'] or ''},<{limit}"
    if match := _STARRED.fullmatch(text):
        return f"{match['sign'] or '=='}{match['release']}.*"
    if match := _PLAIN.fullmatch(text):
        sign = match["sign"] or "=="
        return f"{'==' if sign == '=' else sign}{match['version']}"
    raise Untranslatable(f"`{text}`, no version constraint")


def _caret(numbers: tuple[int, ...]) -> str:
    """Raise the left-most digit that is not zero; the last one given when all are."""
    for place, number in enumerate(numbers[:3]):
        if number or place == len(numbers[:3]) - 1:
            return _raised(numbers, place)
    raise AssertionError("a version has at least one number")


def _tilde(numbers: tuple[int, ...]) -> str:
    """Raise the second digit, or the only one."""
    return _raised(numbers, min(1, len(numbers) - 1))


def _raised(numbers: tuple[int, ...], place: int) -> str:
    return ".".join(str(number) for number in (*numbers[:place], numbers[place] + 1))


# ── one dependency ──────────────────────────────────────────────────────────────────────────────

_ELSEWHERE = ("git", "path", "url", "file", "source", "subdirectory")
_UNDERSTOOD = {"version", "extras", "markers", "python", "platform", "optional", "develop"}


def is_elsewhere(wish: object) -> bool:
    """Say whether a dependency comes from a place of its own instead of the index."""
    return isinstance(wish, Mapping) and any(key in wish for key in _ELSEWHERE)


def requirement(name: str, wish: object) -> str | None:
    """Return one dependency as pip reads it; None for an optional one, which nobody asked for.

    Raises: Untranslatable.
    """
    if isinstance(wish, str):
        return name + specifiers(wish)
    if not isinstance(wish, Mapping):
        raise Untranslatable("neither a version nor a table")
    if wish.get("optional") is True:
        return None
    for key in _ELSEWHERE:
        if key in wish:
            raise Untranslatable(f"`{key}`, a place of its own")
    if unknown := sorted(set(wish) - _UNDERSTOOD):
        raise Untranslatable(f"`{unknown[0]}`, which Cynthus does not follow")
    return name + _extras(wish) + specifiers(_text(wish, "version", "*")) + _marker(wish)


def _text(wish: Mapping[str, Any], key: str, default: str = "") -> str:
    value = wish.get(key, default)
    if not isinstance(value, str):
        raise Untranslatable(f"`{key}` that is not text")
    return value


def _extras(wish: Mapping[str, Any]) -> str:
    extras = wish.get("extras", [])
    if not isinstance(extras, list) or not all(isinstance(extra, str) for extra in extras):
        raise Untranslatable("`extras` that are not a list of names")
    return f"[{','.join(extras)}]" if extras else ""


def _marker(wish: Mapping[str, Any]) -> str:
    parts = []
    if python := _text(wish, "python"):
        parts += [_python_marker(clause) for clause in specifiers(python).split(",") if clause]
    if system := _text(wish, "platform"):
        if not re.fullmatch(r"[a-z0-9]+", system):
            raise Untranslatable(f'`platform = "{system}"`, more than one name')
        parts.append(f'sys_platform == "{system}"')
    if marker := _text(wish, "markers"):
        parts.append(f"({marker})" if parts else marker)
    return f"; {' and '.join(parts)}" if parts else ""


def _python_marker(clause: str) -> str:
    match = re.fullmatch(r"([<>=!~]+)(.+)", clause)
    if match is None:
        raise Untranslatable(f'`python = "{clause}"`')
    # python_version has two numbers; a third is compared with the full version (PEP 508).
    long = match[2].removesuffix(".*").count(".") > 1
    return f'{"python_full_version" if long else "python_version"} {match[1]} "{match[2]}"'
