"""Fill the measured part of docs/reliability.md, and draw its pictures, from a batch's results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tests.simulation.worlds import WORLDS

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
FAULTS_PICTURE, SPEED_PICTURE = "simulation_faults.svg", "simulation_speed.svg"
#: Histories a minute and core, over the same 30 seeds; the newest batch's is added to these.
SPEEDS = (("every statement built anew", 191), ("hot statements built once", 332))
_WIDTH, _LEFT, _ROW, _TOP = 640, 230, 22, 40  # pixels
_BLUE, _DARK = "#1f6feb", "#1f2328"


class NoPlace(ValueError):  # noqa: N818 - read as what happened
    """The page has no part to be filled."""


def write(page: Path, folder: Path) -> None:
    """Fill a page from the batches' results; pictures go to the folder `pictures` beside it.

    Safe to repeat. Raises: OSError, without results of the engine; NoPlace.
    """
    told = [
        json.loads(found.read_text("utf-8"))
        for found in (folder / f"simulation_{world}.json" for world in WORLDS)
        if found.exists() or found.stem == "simulation_engine"
    ]
    page.write_text(filled(page.read_text("utf-8"), told), "utf-8")
    pictures = page.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    faults = Counter(told[0]["faults"])
    (pictures / FAULTS_PICTURE).write_text(
        bars("Faults injected, by call and fate", faults.most_common()), "utf-8"
    )
    speeds = [*SPEEDS, ("the newest batch", told[0]["per_minute_and_core"])]
    (pictures / SPEED_PICTURE).write_text(bars("Histories a minute and core", speeds), "utf-8")


def filled(text: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Return a page with its measured part filled, the engine's batch first. Raises: NoPlace."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoPlace(f"the page: should have {BEGIN} and {END}, found none. Add them.")
    measured = "\n".join(_measured(results))
    return f"{before}{BEGIN}\n{measured}\n{END}{after}"


def _measured(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| histories of | " + " | ".join(_TITLES[one["world"]] for one in results) + " |"
    yield "|---|" + "---|" * len(results)
    for title, value in _ROWS:
        yield f"| {title} | " + " | ".join(value(one) for one in results) + " |"
    yield f"\n![Faults injected, by call and fate](pictures/{FAULTS_PICTURE})\n"
    yield f"![Histories a minute and core](pictures/{SPEED_PICTURE})"
    for one in results:
        yield f"\n| mark, of {_TITLES[one['world']]} | histories that reached it |"
        yield "|---|---|"
        for name in sorted(WORLDS[one["world"]].marks):
            yield f"| `{name}` | {one['marks'].get(name, 0):,} |"
    for one in results:
        for seed, mode, found in one["violations"]:
            yield f"\nViolated: {found['invariant']} by seed {seed} ({mode}): {found['text']}"


def _marks(one: Mapping[str, Any]) -> str:
    marks = WORLDS[one["world"]].marks
    return f"{len(marks & set(one['marks']))} of {len(marks)}"


_TITLES = {"engine": "the engine", "github": "the engine with GitHub"}
_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("histories", lambda one: f"{one['histories']:,}"),
    ("violations", lambda one: f"{one['violated']:,}"),
    ("calls of the outside", lambda one: f"{one['calls']:,}"),
    ("faults injected", lambda one: f"{sum(one['faults'].values()):,}"),
    ("histories a minute and core", lambda one: f"{one['per_minute_and_core']:,}"),
    ("marks reached", _marks),
)


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Return a picture of numbers as lying bars, as SVG."""
    most = max((value for _, value in values), default=0) or 1
    parts = [_text(12, 24, title, size=15)]
    for row, (name, value) in enumerate(values):
        y = _TOP + row * _ROW
        width = (_WIDTH - _LEFT - 70) * value / most
        parts.append(_text(12, y + 14, name))
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="14" fill="{_BLUE}"/>'
        )
        parts.append(_text(_LEFT + width + 6, y + 14, f"{value:,}"))
    height = _TOP + len(values) * _ROW + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        ' font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, words: str, *, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{_DARK}">{escape(words)}</text>'
