"""One measurement, how it is written down, how it is shown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Result:
    """A figure with its target and what it was measured against in the same run."""

    name: str
    value: float
    unit: str
    target: str
    ok: bool
    samples: tuple[float, ...]
    beside: str


def at_most(name: str, unit: str, samples: Sequence[float], limit: float, beside: str) -> Result:
    """Return the median of `samples`, held against an upper limit."""
    value = statistics.median(samples)
    return _result(name, unit, samples, f"≤ {limit:g} {unit}", value <= limit, beside)


def at_least(name: str, unit: str, samples: Sequence[float], limit: float, beside: str) -> Result:
    """Return the median of `samples`, held against a lower limit."""
    value = statistics.median(samples)
    return _result(name, unit, samples, f"≥ {limit:g} {unit}", value >= limit, beside)


def told(name: str, unit: str, samples: Sequence[float], beside: str) -> Result:
    """Return the median of `samples`, for which no target is set."""
    return _result(name, unit, samples, "", True, beside)


def _result(  # noqa: PLR0913, PLR0917 - the two above hide it
    name: str, unit: str, samples: Sequence[float], target: str, ok: bool, beside: str
) -> Result:
    return Result(
        name=name,
        value=round(statistics.median(samples), 4),
        unit=unit,
        target=target,
        ok=ok,
        samples=tuple(round(sample, 4) for sample in samples),
        beside=beside,
    )


def write(results: Iterable[Result], path: Path) -> None:
    """Write the list that the next run can be compared with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(result) for result in results]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")


def table(results: Iterable[Result]) -> str:
    """Return the results as lines for people."""
    lines = [f"{'name':<24}{'value':>10} {'unit':<7}{'target':<18}{'':<8}beside"]
    for result in results:
        mark = "ok" if result.ok else "MISSED"
        lines.append(
            f"{result.name:<24}{result.value:>10.3f} {result.unit:<7}{result.target:<18}"
            f"{mark:<8}{result.beside}"
        )
    return "\n".join(lines)
