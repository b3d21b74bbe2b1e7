"""Turn a run's samples and metrics into short series for its page."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

MOST_POINTS = 400  # a chart is 600 pixels wide
MOST_CHARTS = 24  # more metrics than that are listed by their last value only
Series = list[tuple[float, float]]
Point = tuple[str, int, float, dict[str, Any]]


def series_of(points: Iterable[Point]) -> dict[str, Series]:
    """Return each series by its name, such as `cpu`, `memory`, `gpu0`, `metric:loss`."""
    found: dict[str, Series] = defaultdict(list)
    for kind, _, at, body in points:
        values = _sample(body) if kind == "sample" else _metric(body)
        for name, value in values:
            if len(found) < MOST_CHARTS or name in found:
                found[name].append((round(at, 3), value))
    return {name: thin(series) for name, series in found.items()}


def _sample(body: dict[str, Any]) -> Iterable[tuple[str, float]]:
    yield from _named("cpu", body.get("cpu_pct"))
    yield from _named("memory", body.get("memory_bytes"))
    gpus = body.get("gpus")
    for index, gpu in enumerate(gpus if isinstance(gpus, list) else []):
        if isinstance(gpu, dict):
            yield from _named(f"gpu{index}", gpu.get("utilization_pct", gpu.get("gpu_pct")))
            yield from _named(
                f"gpu{index}-memory", gpu.get("memory_bytes", gpu.get("memory_used_bytes"))
            )


def _metric(body: dict[str, Any]) -> Iterable[tuple[str, float]]:
    yield from _named(f"metric:{body.get('name', '')}", body.get("value"))


def _named(name: str, value: object) -> Iterable[tuple[str, float]]:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield name, float(value)


def thin(series: Series) -> Series:
    """Return at most MOST_POINTS points, the first and the last among them."""
    if len(series) <= MOST_POINTS:
        return series
    step = (len(series) - 1) / (MOST_POINTS - 1)
    return [series[round(index * step)] for index in range(MOST_POINTS)]
