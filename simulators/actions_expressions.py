"""Evaluate `${{ }}` expressions by GitHub's rules.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulators.actions_functions import FUNCTIONS, HOST_FUNCTIONS, STATUS_FUNCTIONS
from simulators.actions_syntax import (
    Binary,
    Call,
    ExpressionError,
    Index,
    Literal,
    Name,
    Node,
    Star,
    parse,
    refuse,
)
from simulators.actions_values import (
    Filtered,
    Value,
    equal,
    greater,
    to_number,
    to_text,
    truthy,
)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an expression may ask: named contexts, and functions that depend on the job."""

    contexts: Mapping[str, Value]
    functions: Mapping[str, Callable[..., Value]] = field(default_factory=dict)


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
        refuse(f"Unrecognized named-value: '{name}'", text.find(name) + 1, text)
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
            refuse(f"Unrecognized function: '{function}'", text.find(function) + 1, text)
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
