"""Which packages a repository declares, and the lines that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from action.packages import poetry, requirements
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
    ("text", "line", "told"),
    [
        ("--index-url https://evil.example\n", 1, "UV_INDEX or PIP_EXTRA_INDEX_URL"),
        ("a\n-i https://evil.example\n", 2, "found `--index-url`"),
        ("a\n-fhttps://evil.example\n", 2, "found `--find-links`"),
        ("-e .\n", 1, "The repository itself is in the image"),
        ("./wheel.whl\n", 1, "a place"),
        ("..\n", 1, "a place"),
        (".[dev]\n", 1, "a place"),
        ("wheels/a-1.0-py3-none-any.whl\n", 1, "a place"),
        ("a @ https://evil.example/a.whl\n", 1, "an address"),
        ("git+https://ada:root:@evil.example/a.git\n", 1, "a repository"),
        ("a @ git+ssh://git@evil.example/a.git@v1\n", 1, "a repository"),
        ("a --global-option=x\n", 1, "found `a --global-option=x`"),
        ("--pre\na\n", 1, "the option `--pre`"),
        ("a --hash=md5:00\n", 1, "found `a --hash=md5:00`"),
        ("a \\\n --index-url https://evil.example\n", 1, "found `a"),
        ("${HOME}\n", 1, "found `${HOME}`"),
        ("a\n-r absent.txt\n", 2, "found no `absent.txt`"),
        ("-r ../outside.txt\n", 1, "inside the repository"),
        ("-r /etc/passwd\n", 1, "inside the repository"),
        ("-r link.txt\n", 1, "inside the repository"),
        ("-c https://evil.example/c.txt\n", 1, "a file of the repository"),
        ("-r requirements.txt\n", 1, "which led to this file"),
        (f"a==1 {HASH}\nb==2\n", 2, "with a hash, as the other lines have"),
        (f"a>=1 {HASH}\n", 1, "one exact version"),
    ],
)
def test_a_line_that_is_more_than_a_package_is_refused_on_its_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    with pytest.raises(UserError) as caught:
        found_in(tmp_path, "requirements.txt", text)
    [fault] = caught.value.faults
    assert (fault.path, fault.line) == ("requirements.txt", line)
    assert told in fault.message
    assert "root:" not in fault.message


@pytest.mark.parametrize(
    "name", ["requirements.txt", "pyproject.toml", "environment.yml", "Pipfile", "r.txt"]
)
def test_a_link_out_of_the_repository_is_not_read(tmp_path: Path, name: str) -> None:
    """What is wrong in a file is quoted, and the builder's own files are nobody's business."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (tmp_path / "secrets").write_text("a secret\n")
    (repository / name).symlink_to("../secrets")
    with pytest.raises(UserError, match="found: a link out of the repository") as caught:
        requirements.find(
            ImageSpec(requirements="r.txt" if name == "r.txt" else None), repository, "."
        )
    assert "a secret" not in str(caught.value)


def test_a_link_within_the_repository_is_followed(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "shared.txt").write_text("numpy\n")
    (tmp_path / "code" / "requirements.txt").symlink_to("../shared.txt")
    assert requirements.find(ImageSpec(), tmp_path, "code").lines == ("numpy",)


def test_every_fault_is_told_together(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("ok\n-e .\n")
    with pytest.raises(UserError) as caught:
        found_in(tmp_path, "requirements.txt", "a b\n-r more.txt\n--pre\n")
    told = [(fault.path, fault.line) for fault in caught.value.faults]
    assert told == [("requirements.txt", 1), ("more.txt", 2), ("requirements.txt", 3)]


def test_files_that_a_file_names_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "base.txt").write_text("numpy\n-c limits.txt\n")
    (tmp_path / "deps" / "limits.txt").write_text("numpy<2\n-r more.txt\n")
    (tmp_path / "deps" / "more.txt").write_text("scipy<2\n")
    found = found_in(tmp_path, "requirements.txt", "-rdeps/base.txt\ntorch\n")
    assert found.lines == ("numpy", "torch")
    assert found.constraints == ("numpy<2", "scipy<2")
    assert found.asked == ("numpy", "torch", "-c numpy<2", "-c scipy<2")
    assert [(place.file, place.line) for place in found.places if place] == [
        ("deps/base.txt", 1),
        ("requirements.txt", 2),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_text_of_windows_is_read_by_its_mark(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "requirements.txt").write_bytes(f"{mark}a==1\r\nb\r\n".encode(encoding))
    assert requirements.find(ImageSpec(), tmp_path, ".").lines == ("a==1", "b")


def test_other_bytes_are_refused_on_their_line(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"a\nb  # caf\xe9\n")
    with pytest.raises(UserError, match=r"requirements.txt:2:1: should be UTF-8 text"):
        requirements.find(ImageSpec(), tmp_path, ".")


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at most 1 MiB"):
        found_in(tmp_path, "requirements.txt", "a\n" * (1 << 20))


@pytest.mark.parametrize(
    ("name", "text", "line", "told"),
    [
        ("Pipfile", "[packages]\na = '*'\nb = {git = 'https://evil.example'}\n", 3, "`git`"),
        ("Pipfile", "[[source]]\nurl = 'https://evil.example'\n[packages]\n", 2, "UV_INDEX"),
        ("Pipfile", "[packages]\na = {version = '1', index = 'x'}\n", 2, "`index`"),
        ("environment.yml", "dependencies:\n- numpy\n- cudatoolkit=11\n", 3, "cudatoolkit=11"),
        ("environment.yml", "dependencies:\n- numpy=1.8|1.9\n", 2, "pip can say"),
        ("environment.yml", "dependencies:\n- pip:\n  - a\n  - -r x.txt\n", 4, "image.requir"),
        ("environment.yml", "dependencies:\n- pip:\n  - {a: b}\n", 3, "as pip knows it"),
        ("environment.yml", "dependencies: [\n", 2, "should be YAML"),
        ("environment.yml", "dependencies: numpy\n", 1, "should be a list"),
        ("pyproject.toml", "[project]\nname = 'x'\n\n[project\n", 4, "should be TOML"),
        ("pyproject.toml", "[project]\ndependencies = 'a'\n", 2, "should be a list"),
        ("pyproject.toml", "[project]\ndependencies = [\n 'a',\n 'b@https://x'\n]\n", 4, "b@"),
        ("pyproject.toml", "[project]\nname = 'x'\ndynamic = ['dependencies']\n", 3, "a build"),
        (
            "pyproject.toml",
            "[project]\ndependencies = ['A_b']\n[tool.uv.sources]\na-b = {git = 'x'}\n",
            4,
            "a place of its own",
        ),
        (
            "pyproject.toml",
            "[tool.poetry.dependencies]\npython = '^3.11'\na = '^1'\nb = {path = '../b'}\n",
            4,
            "`path`, a place of its own",
        ),
        (
            "pyproject.toml",
            "[project]\ndependencies = ['a']\n[tool.poetry.dependencies]\na = {source = 'x'}\n",
            4,
            "a place of its own",
        ),
        (
            "pyproject.toml",
            "[project]\ndependencies = ['a']\n[[tool.uv.index]]\nurl = 'https://evil.example'\n",
            3,
            "should be the public index",
        ),
        (
            "pyproject.toml",
            "[tool.poetry.dependencies]\na = '^1 || ^2'\n",
            2,
            "alternatives that pip cannot say",
        ),
        (
            "pyproject.toml",
            "[tool.poetry.dependencies]\na = {version = '1', allow-prereleases = true}\n",
            2,
            "`allow-prereleases`, which",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_on_its_line(
    tmp_path: Path, name: str, text: str, line: int, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        found_in(tmp_path, name, text)
    [fault] = caught.value.faults
    assert (fault.path, fault.line) == (name, line)
    assert told in fault.message


# ── other tools' files ──────────────────────────────────────────────────────────────────────────

POETRY = """\
[project]
name = "x"
[tool.poetry.dependencies]
python = "^3.10"
a = "^1.2.3"
b = {version = "~2.1", extras = ["x", "y"], markers = "sys_platform == 'linux'"}
c = {version = "*", optional = true}
d = [
  {version = "<2", python = "<3.11"},
  {version = ">=2,<3.1", python = ">=3.11"},
]
e = {version = "1.*", platform = "linux"}
[tool.poetry.group.dev.dependencies]
pytest = "*"
"""


def test_poetrys_main_group_is_translated(tmp_path: Path) -> None:
    found = found_in(tmp_path, "pyproject.toml", POETRY)
    assert found.lines == (
        "a>=1.2.3,<2",
        "b[x,y]>=2.1,<2.2; sys_platform == 'linux'",
        'd<2; python_version < "3.11"',
        'd>=2,<3.1; python_version >= "3.11"',
        'e==1.*; sys_platform == "linux"',
    )
    assert [wanted for wanted, _ in found.python] == [">=3.10,<4"]
    assert any("optional dependency `c`" in note for note in found.notes)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        # The examples of https://python-poetry.org/docs/dependency-specification/
        ("^1.2.3", ">=1.2.3,<2"),
        ("^1.2", ">=1.2,<2"),
        ("^1", ">=1,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0.0", ">=0.0,<0.1"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1.2", ">=1.2,<1.3"),
        ("~1", ">=1,<2"),
        ("*", ""),
        ("1.*", "==1.*"),
        ("1.2.*", "==1.2.*"),
        (">= 1.2.0", ">=1.2.0"),
        ("> 1", ">1"),
        ("!= 1.2.3", "!=1.2.3"),
        (">= 1.2, < 1.5", ">=1.2,<1.5"),
        (">=1.2 <1.5", ">=1.2,<1.5"),
        ("1.2.3", "==1.2.3"),
        ("=1.2.3", "==1.2.3"),
        ("~=1.4.2", "~=1.4.2"),
        ("^1.0.0a1", ">=1.0.0a1,<2"),
        ("2.1.0+cu118", "==2.1.0+cu118"),
    ],
)
def test_poetrys_versions_mean_the_same_in_pips_words(theirs: str, ours: str) -> None:
    assert poetry.specifiers(theirs) == ours


@pytest.mark.parametrize("text", ["latest", "^x", "1.2 ||", ">>1", "1,,;"])
def test_what_is_no_version_of_poetry_has_no_translation(text: str) -> None:
    with pytest.raises(poetry.Untranslatable):
        poetry.specifiers(text)


CONDA = """\
name: x
channels: [conda-forge]
dependencies:
  - python=3.11
  - _libgcc_mutex=0.1=main
  - pytorch::pytorch=2.1.0=py3.11_cuda12.1
  - numpy>=1.26,<2
  - scikit-learn==1.5.0
  - conda-forge::opencv
  - pandas=2.2.*
  - pip
  - pip:
    - a
    - b>=1
variables: {A: b}
"""


def test_a_conda_environment_is_told_in_pips_names(tmp_path: Path) -> None:
    found = found_in(tmp_path, "environment.yml", CONDA)
    assert found.lines == (
        "torch==2.1.0.*",
        "numpy>=1.26,<2",
        "scikit-learn==1.5.0",
        "opencv-python-headless",
        "pandas==2.2.*",
        "a",
        "b>=1",
    )
    assert [(wanted, place.line) for wanted, place in found.python] == [("==3.11.*", 4)]
    assert any("`variables` are not set" in note for note in found.notes)


def test_condas_graphviz_is_the_program_and_not_pips_binding(tmp_path: Path) -> None:
    listed = "dependencies:\n  - python-graphviz=0.20\n"
    assert found_in(tmp_path, "environment.yml", listed).lines == ("graphviz==0.20.*",)
    with pytest.raises(UserError, match=r"environment.yml:3:1: .*found the conda package"):
        found_in(tmp_path, "environment.yml", f"{listed}  - graphviz=9.0.0\n")


def test_a_pipfiles_markers_may_be_keys(tmp_path: Path) -> None:
    text = (
        "[[source]]\nurl = 'https://pypi.org/simple'\n[packages]\n"
        "a = {version = '*', sys_platform = \"== 'linux'\"}\n"
        "b = {version = '>=1', markers = \"os_name == 'posix'\"}\n"
        "[dev-packages]\npytest = '*'\n[requires]\npython_version = '3.11'\n"
    )
    found = found_in(tmp_path, "Pipfile", text)
    assert found.lines == ("a; sys_platform == 'linux'", "b>=1; os_name == 'posix'")
    assert [wanted for wanted, _ in found.python] == ["==3.11.*"]


def test_setuptools_dynamic_dependencies_are_read_from_their_files(tmp_path: Path) -> None:
    (tmp_path / "deps.in").write_text("a\nb\n")
    text = (
        "[project]\nname = 'x'\ndynamic = ['dependencies']\n"
        "[tool.setuptools.dynamic]\ndependencies = {file = ['deps.in']}\n"
    )
    assert found_in(tmp_path, "pyproject.toml", text).lines == ("a", "b")


def test_a_file_that_declares_nothing_leaves_the_word_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.ruff]\n")
    (tmp_path / "environment.yml").write_text("name: x\n")
    found = found_in(tmp_path, "Pipfile", "[packages]\na = '*'\n")
    assert (found.source, found.lines) == ("Pipfile", ("a",))


def test_an_empty_list_is_an_answer_and_nothing_is_inferred(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import numpy\n")
    found = found_in(tmp_path, "requirements.txt", "# none\n")
    assert (found.source, found.lines) == ("requirements.txt", ())


def test_locks_of_other_tools_are_told_as_not_read(tmp_path: Path) -> None:
    (tmp_path / "poetry.lock").write_text("")
    found = found_in(tmp_path, "pyproject.toml", "[project]\ndependencies = ['a']\n")
    assert ["poetry.lock is not read" in note for note in found.notes] == [True]


@pytest.mark.parametrize(
    ("wanted", "version", "fits"),
    [
        (">=3.10", "3.11", True),
        (">=3.12", "3.11", False),
        (">=3.11.4", "3.11", True),
        ("==3.11.7", "3.11", True),
        ("<3.11", "3.11", False),
        ("==3.11.*", "3.11", True),
        ("~=3.10", "3.11", True),
        (">=3.9,<3.11||>=3.12", "3.11", False),
        (">=3.9,<3.11||>=3.12", "3.12", True),
        (">=3.11.4", "3.11.2", False),
        ("soon", "3.11", False),
    ],
)
def test_pythons_own_version_is_checked(wanted: str, version: str, fits: bool) -> None:
    assert requirements.takes_python(wanted, version) is fits


def test_a_python_that_the_project_does_not_take_is_refused_on_its_line(tmp_path: Path) -> None:
    text = "[project]\nrequires-python = '>=3.12'\ndependencies = []\n"
    with pytest.raises(UserError, match=r"pyproject.toml:2:1: should take the image's Python 3.11"):
        found_in(tmp_path, "pyproject.toml", text, python="3.11")
    found = found_in(tmp_path, "pyproject.toml", text)
    requirements.check_python(found, "3.12")
    with pytest.raises(UserError):
        requirements.check_python(found, "3.10")


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
