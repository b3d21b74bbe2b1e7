"""The `filter` of Compute Engine's lists: text to a test of a document.

Grammar: https://cloud.google.com/compute/docs/reference/rest/v1/instances/list (`filter`) and
https://google.aip.dev/160. Both forms are there: `(name = a) AND labels.k:*` and `name eq regex`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from simulators.gcp_http import GoogleError

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<open>\()|(?P<close>\))|(?P<op>!=|<=|>=|=|<|>|:)
    |"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()!=<>:"]+))""",
    re.VERBOSE,
)
_WORDS = {"eq", "ne"}


def compile_filter(text: str) -> Test:
    """Return the test that a filter stands for; refuses in Compute Engine's words.

    Raises GoogleError 400 for what is no filter expression.
    """
    if not text.strip():
        return lambda _: True
    tokens = _tokens(text)
    if tokens is None:
        raise _invalid(text)
    parser = _Parser(tokens, text)
    test = parser.either()
    if parser.at < len(tokens):
        raise _invalid(text)
    return test


def _invalid(text: str) -> GoogleError:
    return GoogleError(
        400,
        f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.",
        reason="invalid",
    )


def _tokens(text: str) -> list[tuple[str, str]] | None:
    found: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            return None
        value = match[match.lastgroup]
        kind = match.lastgroup
        if kind == "quoted":
            value = re.sub(r"\\(.)", r"\1", value)
        found.append((kind, value))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self._tokens = tokens
        self._text = text
        self.at = 0

    def either(self) -> Test:
        tests = [self._both()]
        while self._take("word", "OR"):
            tests.append(self._both())
        return lambda doc: any(test(doc) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self.at < len(self._tokens) and self._tokens[self.at] not in (
            ("word", "OR"),
            ("close", ")"),
        ):
            self._take("word", "AND")  # what stands side by side is joined by AND
            tests.append(self._one())
        return lambda doc: all(test(doc) for test in tests)

    def _one(self) -> Test:
        if self._take("word", "NOT"):
            inner = self._one()
            return lambda doc: not inner(doc)
        if self._take("open", "("):
            inner = self.either()
            if not self._take("close", ")"):
                raise _invalid(self._text)
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._next("word")
        kind, operator = self._tokens[self.at] if self.at < len(self._tokens) else ("", "")
        if kind != "op" and not (kind == "word" and operator in _WORDS):
            raise _invalid(self._text)
        self.at += 1
        wanted = self._next("word", "quoted")
        if operator in _WORDS:
            try:
                re.compile(wanted)
            except re.error:
                raise _invalid(self._text) from None
        return lambda doc: _compare(_value(doc, name), operator, wanted)

    def _next(self, *kinds: str) -> str:
        if self.at >= len(self._tokens) or self._tokens[self.at][0] not in kinds:
            raise _invalid(self._text)
        self.at += 1
        return self._tokens[self.at - 1][1]

    def _take(self, kind: str, value: str) -> bool:
        there = self.at < len(self._tokens) and self._tokens[self.at] == (kind, value)
        self.at += there
        return there


def _value(doc: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(doc, Mapping):
            return None
        doc = doc.get(part)
    return doc


def _compare(found: Any, operator: str, wanted: str) -> bool:
    if operator == ":" and wanted == "*":
        return found is not None
    if operator in {"!=", "ne"}:
        return not _compare(found, {"!=": "=", "ne": "eq"}[operator], wanted)
    if found is None:
        return False
    if isinstance(found, list):
        return any(_compare(item, operator, wanted) for item in found)
    text = str(found).lower() if isinstance(found, bool) else str(found)
    match operator:
        case "=":
            return text == wanted
        case "eq":
            return bool(re.fullmatch(wanted, text))
        case ":":
            return text.startswith(wanted[:-1]) if wanted.endswith("*") else wanted in text
        case _:
            return _ordered(text, operator, wanted)


def _ordered(found: str, operator: str, wanted: str) -> bool:
    try:
        less, same = float(found) < float(wanted), float(found) == float(wanted)
    except ValueError:
        less, same = found < wanted, found == wanted  # times in one zone compare as text
    return {"<": less, "<=": less or same, ">": not less and not same, ">=": not less}[operator]
