"""Say whether a marker such as `python_version < "3.11"` holds in an image. Pure.

https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from action.packages import versions

_TOKEN = re.compile(
    r"\s*(?:(?P<sign>[()]|<=|>=|===|==|!=|~=|<|>|not\s+in\b|in\b|and\b|or\b)"
    r"|(?P<name>[a-z_]+)|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)')"
)
_VERSIONS = {"python_version", "python_full_version", "implementation_version"}


def environment(python: str, machine: str) -> Mapping[str, str]:
    """Return the values of an image's CPython (`3.11` or `3.11.9`) on Linux."""
    short = ".".join(python.split(".")[:2])
    full = python if python.count(".") > 1 else f"{short}.0"
    return {
        "extra": "",
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": short,
        "sys_platform": "linux",
    }


def holds(marker: str, values: Mapping[str, str]) -> bool:
    """Say whether a marker holds; an empty one does. Raises: ValueError for what is none."""
    if not marker.strip():
        return True
    reading = _Reading(marker, values)
    answer = reading.either()
    reading.end()
    return answer


class _Reading:
    """Read from left to right: `or` binds less than `and`, both less than parentheses."""

    def __init__(self, text: str, values: Mapping[str, str]) -> None:
        self._text = text
        self._values = values
        self._at = 0

    def either(self) -> bool:
        """Read parts with `or` between them."""
        answer = self._all()
        while self._take("or"):
            answer = self._all() or answer
        return answer

    def end(self) -> None:
        """Expect nothing more."""
        if self._text[self._at :].strip():
            raise ValueError(f"no marker: {self._text!r}")

    def _all(self) -> bool:
        answer = self._one()
        while self._take("and"):
            answer = self._one() and answer
        return answer

    def _one(self) -> bool:
        if self._take("("):
            answer = self.either()
            if not self._take(")"):
                raise ValueError(f"no marker: {self._text!r}")
            return answer
        left, left_name = self._value()
        operator = self._next()["sign"] or ""
        right, right_name = self._value()
        of_versions = bool({left_name, right_name} & _VERSIONS)
        return _compare(left, " ".join(operator.split()), right, of_versions=of_versions)

    def _value(self) -> tuple[str, str]:
        match = self._next()
        if match["name"]:
            if match["name"] not in self._values:
                raise ValueError(f"no marker: {self._text!r}")
            return self._values[match["name"]], match["name"]
        if match["sign"]:
            raise ValueError(f"no marker: {self._text!r}")
        return match["double"] or match["single"] or "", ""

    def _next(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise ValueError(f"no marker: {self._text!r}")
        self._at = match.end()
        return match

    def _take(self, sign: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match["sign"] != sign:
            return False
        self._at = match.end()
        return True


def _compare(left: str, operator: str, right: str, *, of_versions: bool) -> bool:
    if operator in {"in", "not in"}:
        return (left in right) is (operator == "in")
    if of_versions and versions.clauses(f"{operator}{right}"):
        return versions.allows(f"{operator}{right}", left)
    match operator:
        case "==" | "===":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case ">":
            return left > right
        case "<=":
            return left <= right
        case ">=":
            return left >= right
        case _:
            raise ValueError(f"no comparison: {operator!r}")
