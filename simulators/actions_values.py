"""GitHub's rules for turning one expression value into another.

The rules: https://docs.github.com/en/actions/reference/workflows-and-actions/expressions#operators
Values are what JSON can say: None, bool, float (int is accepted), str, list and dict.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeGuard

Value = Any  # None | bool | int | float | str | list[Value] | dict[str, Value]

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)


class Filtered(list[Value]):
    """What `.*` made: a later `.name` asks every element and drops those without it."""


def is_number(value: Value) -> TypeGuard[int | float]:
    """Say whether a value is a number; Python counts booleans as such, GitHub does not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_primitive(value: Value) -> bool:
    """Say whether a value is neither an array nor an object."""
    return not isinstance(value, (list, dict))


def truthy(value: Value) -> bool:
    """Say whether `if` goes ahead; unlike in Python, an empty array or object is true."""
    if isinstance(value, (list, dict)):
        return True
    if is_number(value):
        return value != 0 and not math.isnan(value)
    return bool(value)


def to_number(value: Value) -> float:
    """Turn a value into a number; what has no number is NaN."""
    if value is None:
        return 0.0
    if isinstance(value, (bool, int, float)):
        return float(value)
    if isinstance(value, str):
        return _text_number(value.strip())
    return math.nan


def _text_number(text: str) -> float:
    if not text:
        return 0.0
    for prefix, base in (("0x", 16), ("0o", 8)):
        if text.startswith(prefix):
            return _based(text[2:], base)
    if text in {"Infinity", "+Infinity"}:
        return math.inf
    if text == "-Infinity":
        return -math.inf
    return float(text) if _DECIMAL.match(text) else math.nan


def _based(digits: str, base: int) -> float:
    if not digits.isalnum():
        return math.nan
    try:
        return float(int(digits, base))
    except ValueError:
        return math.nan


def to_text(value: Value) -> str:
    """Turn a value into the text that GitHub writes for it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return _number_text(float(value))
    if isinstance(value, str):
        return value
    return "Array" if isinstance(value, list) else "Object"


def _number_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    return f"{value:.15G}"  # .NET's G15, in which the runner is written


def to_json(value: Value) -> str:
    """Write a value as `toJSON` does: two spaces of indentation, whole numbers without a point."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Value) -> Value:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _coerced(left: Value, right: Value) -> tuple[Value, Value]:
    """Bring two values to one type, as the runner does before it compares."""
    if _kind(left) == _kind(right):
        return left, right
    if is_primitive(left) and is_primitive(right):
        return to_number(left), to_number(right)
    left = to_number(left) if isinstance(left, bool) or left is None else left
    right = to_number(right) if isinstance(right, bool) or right is None else right
    return left, right


def _kind(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def equal(left: Value, right: Value) -> bool:
    """Compare loosely: text without regard to case, arrays and objects by identity."""
    left, right = _coerced(left, right)
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, str):
        return left.upper() == str(right).upper()
    if not is_primitive(left):
        return left is right
    return bool(left == right)  # NaN equals nothing, also here


def greater(left: Value, right: Value) -> bool:
    """Say whether left is above right; what cannot be ordered is not above."""
    left, right = _coerced(left, right)
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, str):
        return left.upper() > str(right).upper()
    if isinstance(left, bool) or is_number(left):
        return bool(left > right)
    return False
