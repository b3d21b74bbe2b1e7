"""A subset of the Common Expression Language: what attribute conditions are written in. Pure.

https://cloud.google.com/iam/docs/workload-identity-federation#conditions. Known here: strings,
whole numbers, true, false, lists, `a.b`, `a['b']`, `+`, `==`, `!=`, `in`, `!`, `&&`, `||`, round
brackets, and the methods startsWith, endsWith, contains, size. Anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||==|!=|[.()\[\],!+]))"
)
_METHODS: Mapping[str, Callable[..., Any]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
    "size": len,
}
_WORDS: Mapping[str, Any] = {"true": True, "false": False}


class ExpressionError(Exception):
    """The expression is no expression of the subset, or does not fit the values."""


def evaluate(expression: str, values: Mapping[str, Any]) -> Any:
    """Return what an expression comes to; raises ExpressionError."""
    reader = _Reader(_tokens(expression), values)
    found = reader.either()
    reader.end()
    return found


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, expression.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found or found.lastgroup is None:
            raise ExpressionError(f"cannot be read from {text[at : at + 20]!r} on")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


class _Reader:
    """Reads tokens from left to right and computes as it goes."""

    def __init__(self, tokens: list[tuple[str, str]], values: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._values = values
        self._at = 0

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _took(self, *wanted: str) -> str:
        kind, text = self._next()
        if kind in {"sign", "name"} and text in wanted:
            self._at += 1
            return text
        return ""

    def _need(self, wanted: str) -> None:
        if not self._took(wanted):
            raise ExpressionError(f"{wanted!r} expected, found {self._next()[1]!r}")

    def end(self) -> None:
        """Refuse what is left over."""
        if self._next()[0] != "end":
            raise ExpressionError(f"unexpected {self._next()[1]!r}")

    def either(self) -> Any:
        """Read what `||` joins."""
        found = self._both()
        while self._took("||"):
            other = self._both()
            found = _boolean(found) or _boolean(other)
        return found

    def _both(self) -> Any:
        found = self._relation()
        while self._took("&&"):
            other = self._relation()
            found = _boolean(found) and _boolean(other)
        return found

    def _relation(self) -> Any:
        left = self._sum()
        while sign := self._took("==", "!=", "in"):
            right = self._sum()
            if sign == "in":
                left = left in right
            else:
                left = (type(left) is type(right) and left == right) == (sign == "==")
        return left

    def _sum(self) -> Any:
        found = self._not()
        while self._took("+"):
            other = self._not()
            if not isinstance(found, str) or not isinstance(other, str):
                raise ExpressionError("'+' joins texts")
            found += other
        return found

    def _not(self) -> Any:
        if self._took("!"):
            return not _boolean(self._not())
        return self._member()

    def _member(self) -> Any:
        found = self._value()
        while sign := self._took(".", "["):
            if sign == "[":
                found = _item(found, self.either())
                self._need("]")
            else:
                found = self._named(found)
        return found

    def _named(self, owner: Any) -> Any:
        kind, name = self._next()
        if kind != "name":
            raise ExpressionError(f"a name expected after '.', found {name!r}")
        self._at += 1
        if not self._took("("):
            return _item(owner, name)
        arguments = self._list(")")
        if name not in _METHODS or not isinstance(owner, str):
            raise ExpressionError(f"no method {name!r} here")
        return _METHODS[name](owner, *arguments)

    def _list(self, closing: str) -> list[Any]:
        found: list[Any] = []
        while not self._took(closing):
            if found:
                self._need(",")
            found.append(self.either())
        return found

    def _value(self) -> Any:
        kind, text = self._next()
        self._at += 1
        match kind, text:
            case "text", _:
                return re.sub(r"\\(.)", r"\1", text[1:-1])
            case "number", _:
                return int(text)
            case "name", _ if text in _WORDS:
                return _WORDS[text]
            case "name", _:
                return _item(self._values, text)
            case "sign", "(":
                found = self.either()
                self._need(")")
                return found
            case "sign", "[":
                return self._list("]")
            case _:
                raise ExpressionError(f"a value expected, found {text!r}")


def _item(owner: Any, name: Any) -> Any:
    if not isinstance(owner, Mapping) or name not in owner:
        raise ExpressionError(f"there is no {name!r}")
    return owner[name]


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"true or false expected, found {value!r}")
    return value
