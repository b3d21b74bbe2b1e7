"""Draw curves over sizes as a plain SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 400, 70, 40, 190, 50
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0a3069")


def draw(
    path: Path, *, title: str, sizes: Sequence[int], curves: Mapping[str, Sequence[float]]
) -> None:
    """Write a picture: sizes to the right, milliseconds upwards, both by powers of ten."""
    values = [value for curve in curves.values() for value in curve]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(place: int) -> float:
        return _LEFT + place * (_WIDTH - _LEFT - _RIGHT) / max(len(sizes) - 1, 1)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, 22, title, size=15)]
    for power in range(low, high + 1):
        level = y(10.0**power)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}"'
            ' stroke="#d0d7de"/>'
        )
        parts.append(_text(8, level + 4, f"{10.0**power:g} ms"))
    for place, size in enumerate(sizes):
        parts.append(_text(x(place) - 20, _HEIGHT - _BOTTOM + 22, f"{size:,}"))
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(curve))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        label = f"{name}: {curve[-1]:.3g} ms"
        parts.append(_text(_WIDTH - _RIGHT + 12, _TOP + 16 + 20 * number, label, colour=colour))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n",
        "utf-8",
    )


def _text(x: float, y: float, words: str, *, size: int = 12, colour: str = "#1f2328") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}">{escape(words)}</text>'
    )
