"""What the imports of a source come to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action.packages import imports, requirements
from action.packages.declared import Declared
from action.packages.import_findings import Wanted, in_standard_library
from action.packages.import_names import PACKAGES, package_of
from action.packages.import_scan import scan
from action.packages.import_tree import started
from action.plan import canonical
from cynthus.errors import UserError
from cynthus.spec import ImageSpec
from tests.examples import examples
from tests.fixtures import trap_projects as traps


def a_project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def inferred(folder: Path, files: dict[str, str], run: str = "", **more: object) -> Declared:
    found = imports.infer(a_project(folder, files), ".", Wanted(run=run, **more))  # type: ignore[arg-type]
    assert found is not None
    return found


def packages(found: Declared) -> str:
    return " ".join(wish.text for wish in found.wishes)


# ── whole projects ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("files", "run", "needs"),
    [
        (traps.VISION, "python train.py --epochs 3", traps.VISION_NEEDS),
        (traps.CLOUD, "cd /workspace && python jobs/main.py", traps.CLOUD_NEEDS),
        (traps.TEXT, ("python", "-m", "reader"), traps.TEXT_NEEDS),
    ],
)
def test_the_packages_of_a_project_with_traps_are_found_and_no_others(
    tmp_path: Path, files: dict[str, str], run: str, needs: str
) -> None:
    found = inferred(tmp_path, files, run)
    assert found.faults == ()
    assert packages(found) == needs


def test_what_the_code_does_without_is_told_and_not_installed(tmp_path: Path) -> None:
    found = inferred(tmp_path, traps.CLOUD, "python jobs/main.py")
    told = next(note for note in found.notes if note.startswith("not installed, since the code"))
    assert told.endswith(": " + traps.CLOUD_OPTIONAL.replace(" ", ", "))


def test_a_package_stands_at_the_first_line_that_the_command_reaches(tmp_path: Path) -> None:
    files = {"a_test.py": "import numpy\n", "train.py": "\nimport numpy\n"}
    found = inferred(tmp_path, files, "python train.py")
    [wish] = found.wishes
    assert (wish.text, wish.path, wish.line) == ("numpy", "train.py", 2)
    assert "numpy (train.py:2)" in found.notes[0]


def test_a_notebook_is_told_by_the_line_of_its_file(tmp_path: Path) -> None:
    found = inferred(tmp_path, {"a.ipynb": traps.CLOUD["notebook.ipynb"]})
    assert [(wish.text, wish.line) for wish in found.wishes] == [("matplotlib", 7)]


def test_a_file_that_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    found = inferred(tmp_path, traps.TEXT, "python -m reader")
    assert any("old/python2.py:1" in note for note in found.notes)


# ── what is not known ───────────────────────────────────────────────────────────────────────────


def test_an_unknown_import_is_a_question_on_its_line_with_the_lines_to_write(
    tmp_path: Path,
) -> None:
    files = {"train.py": "import numpy\nfrom house_of_data import load\nimport apex.amp\n"}
    with pytest.raises(UserError) as caught:
        requirements.find(ImageSpec(), a_project(tmp_path, files), ".", run="python train.py")
    told = [(fault.path, fault.line) for fault in caught.value.faults]
    assert told == [("train.py", 2), ("train.py", 3)]
    assert "does not guess" in str(caught.value)
    assert "`numpy` `house_of_data` `apex`, if `house_of_data` is" in caught.value.faults[0].message


def test_an_unknown_import_that_the_command_does_not_reach_is_only_told(tmp_path: Path) -> None:
    found = inferred(tmp_path, traps.VISION, "python train.py")
    assert any("house_of_tests (tests/test_train.py:2)" in note for note in found.notes)


def test_a_script_of_another_kind_reaches_everything(tmp_path: Path) -> None:
    found = inferred(tmp_path, traps.VISION, "bash run.sh")
    assert [(fault.path, fault.line) for fault in found.faults] == [("tests/test_train.py", 2)]


def test_a_package_of_the_spec_answers_the_question_of_that_name(tmp_path: Path) -> None:
    image = ImageSpec(packages=("house-of-data>=2", "numpy<2"))
    files = {"train.py": "import house_of_data\nimport numpy, scipy\n"}
    found = requirements.find(image, a_project(tmp_path, files), ".", run="python train.py")
    assert found.lines == ("scipy", "house-of-data>=2", "numpy<2")
    assert found.source is None


def test_a_base_of_the_users_own_may_bring_what_is_not_known(tmp_path: Path) -> None:
    files = {"train.py": "import house_of_data\nimport numpy\n"}
    image = ImageSpec(base="ghcr.io/acme/base:1")
    found = requirements.find(image, a_project(tmp_path, files), ".", run="python train.py")
    assert found.lines == ("numpy",)
    assert any("house_of_data (train.py:1)" in note for note in found.notes)


def test_a_shared_namespace_is_asked_about_by_its_whole_name(tmp_path: Path) -> None:
    found = inferred(tmp_path, {"a.py": "from google.cloud import nonsense_v9\nimport google\n"})
    assert ["google.cloud.nonsense_v9`" in fault.message for fault in found.faults] == [True, False]


def test_what_left_the_standard_library_is_told_as_such(tmp_path: Path) -> None:
    files = {"a.py": "import distutils.util\n"}
    assert inferred(tmp_path, files, python="3.11").faults == ()
    [fault] = inferred(tmp_path, files, python="3.12").faults
    assert "left Python's standard library with 3.12" in fault.message


def test_the_source_is_scanned_by_the_rules_of_the_image(tmp_path: Path) -> None:
    files = {"a.py": "import numpy\n", "old/b.py": "import pandas\n", ".dockerignore": "old\n"}
    assert packages(inferred(tmp_path, files)) == "numpy"
    assert imports.infer(a_project(tmp_path / "x", {"a.sh": "exit\n"}), ".", Wanted()) is None


def test_odd_file_names_can_be_told(tmp_path: Path) -> None:
    files = {os.fsdecode(b"caf\xe9\n.py"): "import numpy\nimport house_of_data\n"}
    found = inferred(tmp_path, files)
    assert str(found.faults[0]).isprintable()
    assert found.wishes[0].path.encode() == b"caf\\xe9\\n.py"


def test_a_package_behind_a_link_is_the_repositorys(tmp_path: Path) -> None:
    a_project(tmp_path, {"lib/real/__init__.py": "", "train.py": "import tools.x\nimport yaml.y\n"})
    for name in ("tools", "yaml"):
        (tmp_path / name).symlink_to("lib/real")
    assert inferred(tmp_path, {}).wishes == ()


def test_links_that_lead_nowhere_or_out_are_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "outside.py").write_text("import numpy\n")
    (source / "main.py").write_text("import torch\n")
    for name, target in {"loop": "loop", "loop.py": "loop.py", "gone.py": "no"}.items():
        (source / name).symlink_to(target)
    (source / "out.py").symlink_to("../outside.py")
    found = imports.infer(source, ".", Wanted())
    assert found is not None
    assert [wish.text for wish in found.wishes] == ["torch"]


def test_a_source_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="src: should hold files that can be read"):
        imports.infer(tmp_path, "absent", Wanted())


def test_paths_are_told_from_the_root_of_the_repository(tmp_path: Path) -> None:
    a_project(tmp_path, {"code/a.py": "import numpy\nimport house_of_data\n"})
    found = imports.infer(tmp_path, "code", Wanted())
    assert found is not None
    assert [wish.path for wish in found.wishes] == ["code/a.py"]
    assert [fault.path for fault in found.faults] == ["code/a.py"]


# ── one file ────────────────────────────────────────────────────────────────────────────────────


def names(code: str | bytes, python: tuple[int, int] = (3, 11)) -> list[str]:
    return [one.name for one in scan(code, python).imports if not one.optional]


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import a.b as c, d", ["a.b", "d"]),
        ("from a import b, c", ["a.b", "a.c"]),
        ("from a import *", ["a"]),
        ("if False:\n import a", []),
        ("if not TYPE_CHECKING:\n import a", ["a"]),
        ("import typing as t\nif t.TYPE_CHECKING:\n import a\nelse:\n import b", ["typing", "b"]),
        ("if sys.platform in ('win32', 'cygwin'):\n import a", []),
        ("if sys.platform.startswith('linux'):\n import a", ["a"]),
        ("if os.name == 'nt':\n import a\nelse:\n import b", ["b"]),
        ("if platform.system() != 'Linux':\n import a", []),
        ("if sys.version_info[0] < 3:\n import a", []),
        ("if sys.version_info < (3, 11):\n import a\nelse:\n import b", ["b"]),
        ("if sys.version_info >= (3, 12, 1):\n import a\nelse:\n import b", ["b"]),
        ("if sys.version_info >= wanted:\n import a", ["a"]),
        ("if x and TYPE_CHECKING:\n import a", []),
        ("if x or find_spec('a'):\n import a", []),
        ("try:\n import a\nexcept Exception:\n a = None", []),
        ("try:\n import a\n main()\nexcept Exception:\n pass", ["a"]),
        ("try:\n import a\nexcept (OSError, ImportError):\n sys.exit('install a')", ["a"]),
        ("try:\n import a\nexcept ValueError:\n import b", ["a", "b"]),
        ("try:\n import a\nexcept ImportError:\n pass\nelse:\n import b", []),
        ("try:\n import a\nfinally:\n import b", ["a", "b"]),
        ("try:\n import a\nexcept* ImportError:\n pass", []),
        ("def f():\n  class A:\n    import a", ["a"]),
        ("x = importlib.import_module('a.b')\nimport_module('.c', 'd')\n__import__(y)", ["a.b"]),
        ("x = [importlib.import_module('a') for _ in y]", ["a"]),
        ("match x:\n case 1:\n  import a", ["a"]),
        ("async def f():\n  async with g:\n    import a\n  while b:\n    import c", ["a", "c"]),
        ("# -*- coding: latin-1 -*-\nimport a  # \xe9".encode("latin-1"), ["a"]),
    ],
)
def test_an_import_counts_where_it_runs(code: str | bytes, needed: list[str]) -> None:
    assert names(code) == needed


def test_the_last_of_several_ways_is_needed_unless_an_earlier_one_is_there(
    tmp_path: Path,
) -> None:
    ways = "try:\n import {0}\nexcept ImportError:\n import {1}\n"
    assert packages(inferred(tmp_path, {"a.py": ways.format("json", "orjson")})) == ""
    assert packages(inferred(tmp_path, {"a.py": ways.format("orjson", "ujson")})) == "ujson"


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"(import |from |try:|if |\n| ){1,40}")))
@settings(max_examples=examples(150), deadline=None)
def test_a_scan_never_raises(code: str | bytes) -> None:
    assert scan(code, (3, 11)).fault_line >= 1
    raw = code if isinstance(code, bytes) else code.encode("utf-8", "surrogatepass")
    imports.scan_file("a.ipynb", raw, (3, 11))
    cell = {"cell_type": "code", "source": code if isinstance(code, str) else []}
    imports.scan_file("a.ipynb", json.dumps({"cells": [cell, 7]}).encode(), (3, 11))


@pytest.mark.parametrize("code", ["(" * 5000, "-" * 200_000 + "1", "x" + ".a" * 50_000, "\0"])
def test_a_file_made_to_exhaust_the_scan_is_a_fault(code: str) -> None:
    found = scan(code, (3, 11))
    assert found.imports == ()


# ── the table, and the command ──────────────────────────────────────────────────────────────────


def test_the_table_names_packages_as_the_index_does_and_nothing_that_python_brings() -> None:
    assert all(package == canonical(package) for package in PACKAGES.values())
    assert not set(PACKAGES) & sys.stdlib_module_names
    assert len(PACKAGES) > 500


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("google.cloud.storage.blob", "google-cloud-storage"),
        ("google.cloud", None),
        ("google.cloud.speech_v1p1beta1", "google-cloud-speech"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
        ("cv2", "opencv-python-headless"),
        ("detectron2", None),
    ],
)
def test_the_longest_part_that_is_known_counts(module: str, package: str | None) -> None:
    assert package_of(module) == package


@pytest.mark.parametrize(
    ("module", "python", "there"),
    [
        ("imp", (3, 11), True),
        ("imp", (3, 12), False),
        ("cgi", (3, 13), False),
        ("tomllib", (3, 10), False),
        ("json", (3, 9), True),
        ("numpy", (3, 11), False),
    ],
)
def test_the_standard_library_is_that_of_the_image(
    module: str, python: tuple[int, int], there: bool
) -> None:
    assert in_standard_library(module, python) is there


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("python train.py --x y.py", None),
        ("torchrun --nproc_per_node 2 ./train.py", ("train.py",)),
        (("python", "-m", "pkg.job"), ("src/pkg/job.py",)),
        ("python -m pkg", ("pkg/__main__.py",)),
        ("python -m torch.distributed.run train.py", ("train.py",)),
        ("make", None),
        ("python 'open", None),
    ],
)
def test_the_files_that_a_command_starts(
    run: str | tuple[str, ...], files: tuple[str, ...] | None
) -> None:
    assert started(run, ["train.py", "src/pkg/job.py", "pkg/__main__.py"]) == files
