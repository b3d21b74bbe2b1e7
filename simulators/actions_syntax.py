"""Parse GitHub's expression language into a tree.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from simulators.actions_functions import FUNCTIONS, HOST_FUNCTIONS
from simulators.actions_values import Value

_TOKENS = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*')
    | (?P<number>[+-]?(?:0x[0-9a-fA-F]+|0o[0-7]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|Infinity\b))
    | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    | (?P<operator><=|>=|==|!=|&&|\|\||[!<>()\[\].,*])
    )""",
    re.VERBOSE | re.ASCII,
)
_WORDS: dict[str, Value] = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "Infinity": math.inf,
}
# A long chain of brackets must not overflow Python's stack; GitHub's own limit is 50.
_DEEPEST = 50


class ExpressionError(Exception):
    """An expression that GitHub would refuse, in GitHub's words."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True)
class Literal:
    """A value written in the expression."""

    value: Value


@dataclass(frozen=True)
class Name:
    """A context, such as `github`."""

    name: str


@dataclass(frozen=True)
class Index:
    """`of.key` or `of[key]`."""

    of: Node
    key: Node


@dataclass(frozen=True)
class Star:
    """`of.*` or `of[*]`."""

    of: Node


@dataclass(frozen=True)
class Call:
    """A function with its arguments; `!` is written as a call too."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Binary:
    """Two sides of an operator."""

    operator: str
    left: Node
    right: Node


Node = Literal | Name | Index | Star | Call | Binary
_LEVELS: tuple[tuple[str, ...], ...] = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))


def parse(text: str) -> Node:
    """Turn an expression into its tree."""
    return _Parser(text).whole()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _next_token(text, position, tokens)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    return tokens


def _next_token(text: str, position: int, before: list[_Token]) -> re.Match[str]:
    match = _TOKENS.match(text, position)
    if match is None:
        rest = text[position:].lstrip()
        symbol = rest.split(maxsplit=1)[0]
        refuse(f"Unexpected symbol: '{symbol}'", len(text) - len(rest) + 1, text)
    after_number = match.lastgroup in {"number", "name"} and before
    if (
        after_number
        and before[-1].kind == "number"
        and match.start(str(match.lastgroup)) == position
    ):
        symbol = f"{before[-1].text}{match[str(match.lastgroup)]}"
        refuse(f"Unexpected symbol: '{symbol}'", before[-1].position, text)
    return match


def refuse(what: str, position: int, text: str) -> NoReturn:
    """Refuse an expression as GitHub does, with the place of the fault."""
    raise ExpressionError(f"{what}. Located at position {position} within expression: {text}")


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        if not self._tokens:
            raise ExpressionError("An expression was expected")
        node = self._binary(0)
        if self._at < len(self._tokens):
            self._unexpected()
        return node

    def _peek(self) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at].kind == "string":
            return ""
        return self._tokens[self._at].text

    def _take(self) -> _Token:
        if self._at == len(self._tokens):
            last = self._tokens[-1]
            refuse(f"Unexpected end of expression: '{last.text}'", last.position, self._text)
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            self._unexpected()
        self._at += 1

    def _unexpected(self) -> NoReturn:
        token = self._take()
        refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while self._peek() in _LEVELS[level]:
            operator = self._take().text
            node = Binary(operator, node, self._binary(level + 1))
        return node

    def _unary(self) -> Node:
        if self._peek() != "!":
            return self._postfix(self._primary())
        self._at += 1
        return self._deeper(lambda: Call("!", (self._unary(),)))

    def _deeper(self, build: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ExpressionError(f"Exceeded max expression depth {_DEEPEST}")
        node = build()
        self._depth -= 1
        return node

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "string":
            return Literal(token.text[1:-1].replace("''", "'"))
        if token.kind == "number":
            return Literal(_literal_number(token.text))
        if token.text == "(":
            return self._deeper(self._group)
        if token.kind != "name":
            refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)
        if token.text in _WORDS:
            return Literal(_WORDS[token.text])
        if self._peek() == "(":
            return self._call(token)
        return Name(token.text)

    def _group(self) -> Node:
        node = self._binary(0)
        self._expect(")")
        return node

    def _call(self, token: _Token) -> Node:
        name = token.text.lower()
        if name not in FUNCTIONS and name not in HOST_FUNCTIONS:
            refuse(f"Unrecognized function: '{token.text}'", token.position, self._text)
        self._expect("(")
        arguments: list[Node] = []
        while self._peek() != ")":
            if arguments:
                self._expect(",")
            arguments.append(self._deeper(lambda: self._binary(0)))
        self._expect(")")
        self._check_count(token, len(arguments))
        return Call(name, tuple(arguments))

    def _check_count(self, token: _Token, count: int) -> None:
        name = token.text.lower()
        least, most = HOST_FUNCTIONS[name] if name in HOST_FUNCTIONS else FUNCTIONS[name].arguments
        if count < least:
            refuse(f"Too few parameters supplied: '{token.text}'", token.position, self._text)
        if count > most:
            refuse(f"Too many parameters supplied: '{token.text}'", token.position, self._text)

    def _postfix(self, node: Node) -> Node:
        while (symbol := self._peek()) in {".", "["}:
            self._at += 1
            node = self._property(node) if symbol == "." else self._bracket(node)
        return node

    def _property(self, node: Node) -> Node:
        token = self._take()
        if token.text == "*":
            return Star(node)
        if token.kind != "name":
            refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)
        return Index(node, Literal(token.text))

    def _bracket(self, node: Node) -> Node:
        if self._peek() == "*":
            self._at += 1
            self._expect("]")
            return Star(node)
        key = self._deeper(lambda: self._binary(0))
        self._expect("]")
        return Index(node, key)


def _literal_number(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text.lstrip("+-")
    if digits.startswith(("0x", "0o")):
        return sign * int(digits, 0)
    return sign * float(digits)
