"""Turn a run's samples and metrics into short series, and a table of what is used, for its page."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from webhook_server.runs.model import Run
from webhook_server.runs.spark import sparkline
from webhook_server.runs.usage import Row, UsageMeter, rows

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


def use_rows(run: Run, points: Iterable[Point]) -> tuple[tuple[Row, str], ...]:
    """Return what the newest attempt uses, each line with its course; of a gang all together."""
    if run.attempt is None:
        return ()
    meter = UsageMeter()
    for kind, attempt, _, body in points:
        if kind == "sample" and attempt == run.attempt.number:
            meter.add(body)
    found = rows(meter.usage(), cpus=run.attempt.offer.cpu)
    return tuple((row, sparkline(row.course, low=0.0, high=row.full)) for row in found)


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
