"""Say field by field how two specs differ: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cynthus.spec import Spec, spec_to_json

#: The normal form says its units in its names; people know the names of the file.
_UNITS = {"_usd": "${}", "_s": "{} s", "_bytes": "{} bytes"}
_THEIRS = ("env/", "labels/")  # names below these are the file's own


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field; None: it was not there, or is not there any more."""

    path: str  # as faults name it: resources/max_cost
    old: str | None
    new: str | None


def differences(old: Spec | None, new: Spec | None) -> tuple[Difference, ...]:
    """Return what differs, in the order of the newer spec's normal form.

    What stands below `env` is named and never shown: people write secrets there against all advice.
    """
    before, after = _fields(old), _fields(new)
    return tuple(
        _difference(path, before.get(path), after.get(path))
        for path in {**after, **before}
        if before.get(path) != after.get(path)
    )


def _difference(path: str, old: str | None, new: str | None) -> Difference:
    if path.startswith("env/"):
        otherwise = "set" if old is None else "set otherwise"
        old = None if old is None else "set"
        new = None if new is None else otherwise
    return Difference(path=path, old=old, new=new)


def _fields(spec: Spec | None) -> dict[str, str]:
    return {} if spec is None else dict(_flat("", spec_to_json(spec)))


def _flat(where: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{where}/{key}" if where else str(key), item)
    elif isinstance(value, list):
        if value:
            yield where, ", ".join(_item(item) for item in value)
    elif value is not None:
        yield _as_written(where, str(value))


def _as_written(where: str, value: str) -> tuple[str, str]:
    unit = next((unit for unit in _UNITS if where.endswith(unit)), None)
    if unit is None or where.startswith(_THEIRS):
        return where, value
    return where.removesuffix(unit), _UNITS[unit].format(value)


def _item(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    return str(value)
