"""Which packages a repository declares, and the lines that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from action import requirements
from cynthus.errors import UserError
from cynthus.spec import ImageSpec

HASH = "--hash=sha256:" + "a" * 64


def found_in(folder: Path, name: str, text: str, **image: object) -> requirements.Requirements:
    (folder / name).write_text(text)
    return requirements.find(ImageSpec(**image), folder, ".")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("requirements.txt", "a\n# note\nb>=1  # why\n\n", ("a", "b>=1")),
        ("requirements.txt", f"a==1 \\\n    {HASH} \\\n    {HASH}\n", (f"a==1 {HASH} {HASH}",)),
        ("requirements.txt", "\ufeffa\r\nb\r\n", ("a", "b")),
        (
            "pyproject.toml",
            "[project]\nname = 'x'\ndependencies = ['a>=1', 'b[c]']\n",
            ("a>=1", "b[c]"),
        ),
        ("pyproject.toml", "[tool.ruff]\nline-length = 100\n", ()),
        (
            "Pipfile",
            "[packages]\na = '*'\nb = '==1'\nc = {version = '>=2', extras = ['x']}\n",
            ("a", "b==1", "c[x]>=2"),
        ),
        (
            "environment.yml",
            "dependencies:\n- python=3.11\n- pip:\n  - a\n  - b>=1\n",
            ("a", "b>=1"),
        ),
    ],
)
def test_declared_packages_are_found(
    tmp_path: Path, name: str, text: str, lines: tuple[str, ...]
) -> None:
    assert found_in(tmp_path, name, text).lines == lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("--index-url https://evil.example\n", 1),
        ("a\n-r other.txt\n", 2),
        ("a\n\n-c limits.txt\n", 3),
        ("-e .\n", 1),
        ("./wheel.whl\n", 1),
        ("a @ https://evil.example/a.whl\n", 1),
        ("git+https://evil.example/a.git\n", 1),
        ("a --global-option=x\n", 1),
        ("a --hash=md5:00\n", 1),
        ("a \\\n --index-url https://evil.example\n", 1),
        ("${HOME}\n", 1),
    ],
)
def test_a_line_that_is_more_than_a_package_is_refused_on_its_line(
    tmp_path: Path, text: str, line: int
) -> None:
    with pytest.raises(UserError) as caught:
        found_in(tmp_path, "requirements.txt", text)
    [fault] = caught.value.faults
    assert (fault.path, fault.line) == ("requirements.txt", line)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Pipfile", "[packages]\na = {git = 'https://evil.example'}\n"),
        ("environment.yml", "dependencies:\n- cudatoolkit=11\n"),
        ("pyproject.toml", "[project\n"),
        ("pyproject.toml", "[project]\ndependencies = 'a'\n"),
        ("environment.yml", "dependencies: [\n"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UserError, match=name):
        found_in(tmp_path, name, text)


def test_the_first_file_in_the_order_of_the_spec_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = ['b']\n")
    assert found_in(tmp_path, "requirements.txt", "a\n").source == "requirements.txt"


def test_a_named_file_is_looked_for_from_the_root_and_then_in_src(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "gpu.txt").write_text("a\n")
    image = ImageSpec(requirements="gpu.txt")
    assert requirements.find(image, tmp_path, "src").source == "src/gpu.txt"
    (tmp_path / "gpu.txt").write_text("b\n")
    assert requirements.find(image, tmp_path, "src").source == "gpu.txt"


def test_a_named_file_that_is_absent_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"image/requirements: should be a readable file"):
        requirements.find(ImageSpec(requirements="absent.txt"), tmp_path, ".")


def test_packages_of_the_spec_come_on_top_but_not_on_hashes(tmp_path: Path) -> None:
    found = found_in(tmp_path, "requirements.txt", "a\n", packages=("b>=1",))
    assert found.lines == ("a", "b>=1")
    with pytest.raises(UserError, match="carries hashes"):
        found_in(tmp_path, "requirements.txt", f"a==1 {HASH}\n", packages=("b",))
