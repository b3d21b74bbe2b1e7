"""Every case of the threat model has a test, or the page says why not; every mark names a case."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from docs.generate_threat_model import PAGE, TESTS, cases, marks, threat_model_page

HOW_MANY = {"W": 25, "O": 22, "C": 17, "S": 9, "A": 23, "G": 10, "P": 17, "R": 20, "D": 7}
LISTED = cases(PAGE.read_text("utf-8"))


@functools.cache
def proved() -> dict[str, set[str]]:
    return marks(TESTS)


def test_the_page_lists_every_case_once_and_in_order() -> None:
    numbered = [f"{letter}{n + 1}" for letter, most in HOW_MANY.items() for n in range(most)]
    assert [case.id for case in LISTED] == numbered


def test_every_case_has_a_test_or_says_why_not() -> None:
    bare = [case.id for case in LISTED if not case.is_later and not proved().get(case.id)]
    assert bare == [], "mark a test with these, or say in the page what is still to come"


def test_no_mark_names_a_case_that_there_is_not() -> None:
    known = {case.id for case in LISTED}
    assert {name: files for name, files in proved().items() if name not in known} == {}


def test_the_committed_page_is_the_generated_one() -> None:
    page = PAGE.read_text("utf-8")
    assert threat_model_page(page, proved()) == page, "run `python -m docs.generate_threat_model`"


def test_a_mark_is_found_above_whatever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        '@pytest.mark.slow\n@pytest.mark.case("W1", "W2")\ndef test_a() -> None: ...\n'
        '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.case("D1"))])\n'
        "def test_b(x: int) -> None: ...\n"
    )
    assert marks(tmp_path) == {"W1": {"test_a.py"}, "W2": {"test_a.py"}, "D1": {"test_a.py"}}


def test_a_mark_that_hides_its_case_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("@pytest.mark.case(*IDS)\ndef test_a() -> None: ...\n")
    with pytest.raises(TypeError, match="written out"):
        marks(tmp_path)
