"""Names that somebody else made: where they may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynthus.errors import Refused
from cynthus.placing import folded, name_fault, place

OWN = ["x" * 256, ".cynthus-pull/x", ".Cynthus-Pull/x", "a\ud800"]


@pytest.mark.case("A16")
@pytest.mark.parametrize(
    "path",
    [
        *OWN,
        "../a",
        "/a",
        "a/../../b",
        "a//b",
        "./a",
        "a/",
        "",
        "..",
        "a\0b",
        "a\nb",
        "\x1b[2J",
        "x" * 256,
        *(".git/config", "a/.GIT/hooks/x", ".git", ".g\u200cit/config", "git~1/x", ".git. /x"),
        ".git::$INDEX_ALLOCATION/config",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    assert name_fault(path) is not None
    with pytest.raises(Refused, match="left out"):
        place(tmp_path, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["-rf", "%2e%2e/a", "ü/名.txt", "..a/b..", "a" * 255, "a b/c"])
def test_an_odd_name_is_only_a_name(tmp_path: Path, path: str) -> None:
    assert place(tmp_path, path) == tmp_path / path


@pytest.mark.parametrize(
    "path", ["con", "a/NUL.txt", "com1", "LPT¹.x", "a:b", "a\\b", "a.", "b /c", "what?", "a|b"]
)
def test_windows_names_are_refused_where_windows_is(path: str) -> None:
    assert name_fault(path, windows=True) == "should be a name that Windows can have"
    assert name_fault(path, windows=False) is None


def test_no_link_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "file").write_text("x")
    (tmp_path / "in" / "folder").mkdir()
    for path, why in (("link/a", "inside"), ("file/a", "is a file"), ("folder", "is a folder")):
        with pytest.raises(Refused, match=why):
            place(tmp_path / "in", path)
    assert list((tmp_path / "outside").iterdir()) == []


def test_names_that_some_disks_take_for_one_fold_alike() -> None:
    assert folded("Model/É") == folded("model/E\u0301")
    assert folded("a") != folded("b")
