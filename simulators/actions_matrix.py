"""Expand `strategy.matrix` into combinations.

https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from simulators.actions_values import Value, is_primitive, to_text

Combination = dict[str, Value]
_MOST_JOBS = 256  # per workflow run: https://docs.github.com/en/actions/reference/limits


def combinations(matrix: Value) -> list[Combination]:
    """List the combinations; no matrix gives a single empty one."""
    if not matrix:
        return [{}]
    if not isinstance(matrix, Mapping):
        raise ValueError("Matrix must be a mapping")  # noqa: TRY004 - the file is wrong
    axes = {key: values for key, values in matrix.items() if key not in {"include", "exclude"}}
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"Matrix vector '{key}' does not contain any values")
    found = _product(axes) if axes else []
    found = [one for one in found if not _excluded(one, matrix.get("exclude") or [])]
    return _limited(_included(found, set(axes), matrix.get("include") or []))


def _product(axes: Mapping[str, list[Value]]) -> list[Combination]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _excluded(one: Combination, excludes: list[Combination]) -> bool:
    return any(all(one.get(key) == value for key, value in rule.items()) for rule in excludes)


def _included(
    found: list[Combination], axes: set[str], includes: list[Combination]
) -> list[Combination]:
    """Widen every combination whose own values an include keeps; else it stands alone."""
    originals = [dict(one) for one in found]
    alone: list[Combination] = []
    for include in includes:
        fixed = {key: value for key, value in include.items() if key in axes}
        hits = [
            one
            for one, original in zip(found, originals, strict=True)
            if all(original.get(key) == value for key, value in fixed.items())
        ]
        for one in hits:
            one.update(include)
        if not hits:
            alone.append(dict(include))
    return found + alone


def _limited(found: list[Combination]) -> list[Combination]:
    if len(found) > _MOST_JOBS:
        raise ValueError(f"The matrix has {len(found)} combinations, the limit is {_MOST_JOBS}")
    return found


def display_name(name: str, combination: Combination) -> str:
    """Name a job as GitHub does when its name leaves the matrix out: `test (3.11, linux)`."""
    values = [to_text(leaf) for value in combination.values() for leaf in _leaves(value)]
    return f"{name} ({', '.join(values)})" if values else name


def _leaves(value: Value) -> list[Value]:
    if is_primitive(value):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return [leaf for item in inner for leaf in _leaves(item)]
