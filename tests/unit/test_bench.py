"""What the bench measures is what the page about performance lists."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.curve import draw
from bench.load import Measured
from bench.measurements import NAMES
from bench.result import at_least, at_most

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def test_the_page_lists_exactly_the_names_that_the_bench_measures() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == list(NAMES)


@pytest.mark.parametrize(("samples", "ok"), [((1.0, 2.0, 9.0), True), ((1.0, 2.1, 2.2), False)])
def test_the_median_is_held_against_the_limit(samples: tuple[float, ...], ok: bool) -> None:
    assert at_most("name", "s", samples, 2.0, "nothing").ok is ok
    assert at_least("name", "s", [-sample for sample in samples], -2.0, "nothing").ok is ok


@pytest.mark.parametrize(
    ("statuses", "good"),
    [({"202": 9}, True), ({"202": 9, "503": 1}, False), ({"closed": 1}, False)],
)
def test_one_answer_that_is_no_success_spoils_a_measurement(
    statuses: dict[str, int], good: bool
) -> None:
    measured = Measured(seconds=1, statuses=statuses, p50_ms=1, p99_ms=1, max_ms=1, rate=1)
    assert measured.only_good is good


def test_a_picture_has_a_curve_for_each_name(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    draw(path, title="a < b", sizes=(0, 1000), curves={"list": (1.0, 1.2), "flat": (5.0, 5.0)})
    root = ET.fromstring(path.read_text("utf-8"))
    lines = [one for one in root if one.tag.endswith("polyline")]
    assert len(lines) == 2
    heights = {point.split(",")[1] for point in lines[1].attrib["points"].split()}
    assert len(heights) == 1  # flat is drawn flat
    assert "a < b" in "".join(root.itertext())
