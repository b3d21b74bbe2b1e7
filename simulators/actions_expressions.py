"""Parse `${{ }}` expressions and evaluate them by GitHub's rules.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from simulators.actions_functions import FUNCTIONS, HOST_FUNCTIONS, STATUS_FUNCTIONS
from simulators.actions_values import Filtered, Value, equal, greater, to_number, to_text, truthy

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


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an expression may ask: named contexts, and functions that depend on the job."""

    contexts: Mapping[str, Value]
    functions: Mapping[str, Callable[..., Value]] = field(default_factory=dict)


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


def evaluate(text: str, scope: Scope) -> Value:
    """Evaluate one expression, given without `${{ }}`."""
    return _value(parse(text), scope, text)


def condition(text: str, scope: Scope) -> bool:
    """Evaluate an `if`: without a status function, `success() &&` stands before it."""
    text = text.strip()
    if not text:
        return truthy(scope.functions["success"]())
    pieces = split_template(text)
    if any(is_code for is_code, _ in pieces) and len(pieces) > 1:
        # `${{ a }} == 'b'` is text that is not empty, and so is true: a well-known trap.
        return truthy(scope.functions["success"]()) and bool(render(text, scope))
    expression = pieces[0][1]
    tree = parse(expression)
    if not _asks_status(tree) and not truthy(scope.functions["success"]()):
        return False
    return truthy(_value(tree, scope, expression))


def render(text: str, scope: Scope) -> str:
    """Fill a text that may hold any number of `${{ }}`."""
    return to_text(template(text, scope))


def template(text: str, scope: Scope) -> Value:
    """Fill a text; one that is a single `${{ }}` keeps the type of its value."""
    pieces = split_template(text)
    if len(pieces) == 1 and pieces[0][0]:
        return evaluate(pieces[0][1], scope)
    return "".join(to_text(evaluate(part, scope)) if code else part for code, part in pieces)


def fill(value: Value, scope: Scope) -> Value:
    """Fill every text inside a YAML value."""
    if isinstance(value, str):
        return template(value, scope)
    if isinstance(value, list):
        return [fill(item, scope) for item in value]
    if isinstance(value, dict):
        return {render(str(key), scope): fill(item, scope) for key, item in value.items()}
    return value


def split_template(text: str) -> list[tuple[bool, str]]:
    """Cut a text into (is code, part); quotes inside code may hold `}}`."""
    pieces: list[tuple[bool, str]] = []
    rest = text
    while (start := rest.find("${{")) >= 0:
        end = _code_end(rest, start + 3)
        if end < 0:
            raise ExpressionError(f"The expression is not closed. An unescaped ${{{{ sequence was found, but the closing }}}} sequence was not found: {text}")  # fmt: skip # noqa: E501 - GitHub's own words
        if start:
            pieces.append((False, rest[:start]))
        pieces.append((True, rest[start + 3 : end].strip()))
        rest = rest[end + 2 :]
    return [*pieces, (False, rest)] if rest or not pieces else pieces


def _code_end(text: str, start: int) -> int:
    quoted = False
    for index in range(start, len(text)):
        if text[index] == "'":
            quoted = not quoted
        elif not quoted and text.startswith("}}", index):
            return index
    return -1


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
        _refuse(f"Unexpected symbol: '{symbol}'", len(text) - len(rest) + 1, text)
    after_number = match.lastgroup in {"number", "name"} and before
    if (
        after_number
        and before[-1].kind == "number"
        and match.start(str(match.lastgroup)) == position
    ):
        symbol = f"{before[-1].text}{match[str(match.lastgroup)]}"
        _refuse(f"Unexpected symbol: '{symbol}'", before[-1].position, text)
    return match


def _refuse(what: str, position: int, text: str) -> NoReturn:
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
            _refuse(f"Unexpected end of expression: '{last.text}'", last.position, self._text)
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            self._unexpected()
        self._at += 1

    def _unexpected(self) -> NoReturn:
        token = self._take()
        _refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)

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
            _refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)
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
            _refuse(f"Unrecognized function: '{token.text}'", token.position, self._text)
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
            _refuse(f"Too few parameters supplied: '{token.text}'", token.position, self._text)
        if count > most:
            _refuse(f"Too many parameters supplied: '{token.text}'", token.position, self._text)

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
            _refuse(f"Unexpected symbol: '{token.text}'", token.position, self._text)
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


def _asks_status(node: Node) -> bool:
    match node:
        case Call(function, arguments):
            return function in STATUS_FUNCTIONS or any(map(_asks_status, arguments))
        case Binary(_, left, right) | Index(left, right):
            return _asks_status(left) or _asks_status(right)
        case Star(of):
            return _asks_status(of)
        case _:
            return False


def _value(node: Node, scope: Scope, text: str) -> Value:
    match node:
        case Literal(value):
            return value
        case Name(name):
            return _context(name, scope, text)
        case Index(of, key):
            return _index(_value(of, scope, text), _value(key, scope, text))
        case Star(of):
            return _star(_value(of, scope, text))
        case Call(function, arguments):
            return _called(function, arguments, scope, text)
        case Binary():
            return _binary_value(node, scope, text)


def _context(name: str, scope: Scope, text: str) -> Value:
    if name.lower() not in scope.contexts:
        _refuse(f"Unrecognized named-value: '{name}'", text.find(name) + 1, text)
    return scope.contexts[name.lower()]


def _index(of: Value, key: Value) -> Value:
    if isinstance(of, Filtered):
        return Filtered(item for item in (_index(one, key) for one in of) if item is not None)
    if isinstance(of, dict):
        return _lookup(of, to_text(key))
    number = to_number(key)
    if isinstance(of, list) and 0 <= number < len(of):  # false for NaN
        return of[math.floor(number)]
    return None


def _lookup(of: dict[str, Value], key: str) -> Value:
    if key in of:
        return of[key]
    folded = key.lower()
    return next((value for name, value in of.items() if name.lower() == folded), None)


def _star(of: Value) -> Value:
    if isinstance(of, Filtered):
        return Filtered(item for one in of for item in _star(one))
    if isinstance(of, dict):
        return Filtered(of.values())
    return Filtered(of) if isinstance(of, list) else Filtered()


def _called(function: str, arguments: tuple[Node, ...], scope: Scope, text: str) -> Value:
    if function == "!":
        return not truthy(_value(arguments[0], scope, text))
    if function == "case":
        return _case(arguments, scope, text)
    values = [_value(argument, scope, text) for argument in arguments]
    if function in HOST_FUNCTIONS:
        if function not in scope.functions:
            _refuse(f"Unrecognized function: '{function}'", text.find(function) + 1, text)
        return scope.functions[function](*values)
    try:
        return FUNCTIONS[function].call(*values)
    except ValueError as fault:
        raise ExpressionError(str(fault)) from fault


def _case(arguments: tuple[Node, ...], scope: Scope, text: str) -> Value:
    if len(arguments) % 2 == 0:
        raise ExpressionError("The function 'case' requires an odd number of parameters")
    for test, result in zip(arguments[:-1:2], arguments[1::2], strict=True):
        if truthy(_value(test, scope, text)):
            return _value(result, scope, text)
    return _value(arguments[-1], scope, text)


def _binary_value(node: Binary, scope: Scope, text: str) -> Value:
    left = _value(node.left, scope, text)
    if node.operator in {"&&", "||"}:
        goes_right = truthy(left) is (node.operator == "&&")
        return _value(node.right, scope, text) if goes_right else left
    right = _value(node.right, scope, text)
    return _COMPARISONS[node.operator](left, right)


_COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    ">": greater,
    "<": lambda left, right: greater(right, left),
    ">=": lambda left, right: equal(left, right) or greater(left, right),
    "<=": lambda left, right: equal(left, right) or greater(right, left),
}
