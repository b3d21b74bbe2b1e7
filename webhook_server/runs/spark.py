"""Draw the course of numbers and lengths of time with signs of text: pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

SPARK_WIDTH = 24  # signs: a table's cell holds them without a line break
_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def sparkline(
    values: Sequence[float], *, low: float | None = None, high: float | None = None
) -> str:
    """Return the course of a metric in one word; each sign is the mean of its share.

    Without `low` and `high` the smallest and the largest sign are the course's own ends.
    """
    width = min(SPARK_WIDTH, len(values))
    if width < 2:  # noqa: PLR2004 - one point has no course
        return ""
    edges = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(edges)]
    bottom = min(means) if low is None else low
    top = max(means) if high is None else high
    scale = (len(_SPARKS) - 1) / (top - bottom) if top > bottom else 0.0
    return "".join(_SPARKS[_step((mean - bottom) * scale)] for mean in means)


def _step(height: float) -> int:
    return min(max(round(height), 0), len(_SPARKS) - 1)


def bar(share: float, width: int) -> str:
    """Return a bar that is `share` (0…1) of `width` signs long; whatever is there is seen."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
