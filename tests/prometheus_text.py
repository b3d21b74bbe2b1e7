"""Read Prometheus' text format strictly: a fault is raised with its line.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_NUMBER = re.compile(r"[+-]?(?:Inf|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)|NaN")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


@dataclass
class Family:
    name: str
    help: str
    kind: str = ""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)


def parsed(text: str) -> dict[str, Family]:
    """Return the families. Raises: ValueError."""
    if not text.endswith("\n"):
        raise ValueError("the last line should end")
    families: dict[str, Family] = {}
    current: Family | None = None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, told = line.removeprefix("# HELP ").partition(" ")
            if name in families:
                raise ValueError(f"a family in two pieces: {line}")
            current = families[name] = Family(name, told)
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            if current is None or current.name != name or current.kind or kind not in _SUFFIXES:
                raise ValueError(f"a type out of place: {line}")
            current.kind = kind
        else:
            _take(current, line)
    for family in families.values():
        _check(family)
    return families


def _take(family: Family | None, line: str) -> None:
    found = _SAMPLE.fullmatch(line)
    if found is None or family is None or not family.kind:
        raise ValueError(f"no sample, or one without a type: {line}")
    name, inner, number = found.groups()
    if name.removeprefix(family.name) not in _SUFFIXES[family.kind]:
        raise ValueError(f"a sample of another family: {line}")
    labels = _labels(inner or "", line)
    if (name, labels) in family.samples or _NUMBER.fullmatch(number) is None:
        raise ValueError(f"a sample twice, or no number: {line}")
    family.samples[name, labels] = float(number.replace("Inf", "inf"))


def _labels(inner: str, line: str) -> tuple[tuple[str, str], ...]:
    at, found = 0, []
    while at < len(inner):
        one = _LABEL.match(inner, at)
        if one is None:
            raise ValueError(f"labels that cannot be read: {line}")
        found.append((one[1], one[2]))
        at = one.end()
    if len(dict(found)) != len(found):
        raise ValueError(f"a label twice: {line}")
    return tuple(found)


def _check(family: Family) -> None:
    if not family.samples or not family.help:
        raise ValueError(f"{family.name}: should have samples and a help")
    if family.kind != "histogram":
        return
    series: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for (name, labels), value in family.samples.items():
        if name.endswith("_bucket"):
            bare = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(bare, []).append(value)
    for bare, counts in series.items():
        total = family.samples[f"{family.name}_count", bare]
        if counts != sorted(counts) or counts[-1] != total:
            raise ValueError(f"{family.name}{bare}: buckets should grow up to the count")
