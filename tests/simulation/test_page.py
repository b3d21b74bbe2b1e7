"""The page of what was measured is filled from a batch's results, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.simulation.page import BEGIN, END, FAULTS_PICTURE, SPEED_PICTURE, NoPlace, filled, write

RESULTS = {
    "world": "engine",
    "histories": 1200,
    "violated": 1,
    "calls": 34_000,
    "per_minute_and_core": 300,
    "faults": {"db.write late": 3, "cloud.create refused": 5},
    "marks": {"gang": 7},
    "missed": [],
    "violations": [[4, "safety", {"invariant": "I1", "text": "it lives"}]],
}

GITHUB = RESULTS | {"world": "github", "histories": 50, "marks": {"several_runs": 9}}


def test_the_measured_part_is_replaced_and_the_rest_is_left() -> None:
    page = filled(f"# Head\n{BEGIN}\nyesterday\n{END}\ntail\n", [RESULTS, GITHUB])
    assert page.startswith(f"# Head\n{BEGIN}\n")
    assert page.endswith(f"{END}\ntail\n")
    assert "yesterday" not in page
    for words in ("| histories | 1,200 | 50 |", "| faults injected | 8 | 8 |", "seed 4"):
        assert words in page
    assert "| `gang` | 7 |" in page
    assert "| `several_runs` | 9 |" in page
    assert filled(page, [RESULTS, GITHUB]) == page, "to fill it again changes nothing"


def test_a_page_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(NoPlace, match="should have"):
        filled("# Head\n", [RESULTS])


def test_the_pictures_are_drawn_beside_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n", "utf-8")
    (tmp_path / "simulation_engine.json").write_text(json.dumps(RESULTS), "utf-8")
    write(page, tmp_path)
    for name, bars in ((FAULTS_PICTURE, 2), (SPEED_PICTURE, 3)):
        picture = ET.parse(tmp_path / "pictures" / name)
        assert len(picture.findall("{*}rect")) == bars + 1, "and what it is drawn on"
