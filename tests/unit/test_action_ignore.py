"""`.dockerignore` means what Docker says, and some things never get in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from action import context, ignore

# Docker's own cases: moby/patternmatcher's tests and the reference page.
CASES = [
    ("*.md", "README.md", True),
    ("*.md", "docs/README.md", False),
    ("**/*.md", "docs/README.md", True),
    ("**/*.md", "README.md", True),
    ("docs", "docs/a/b.txt", True),
    ("/docs", "docs/a", True),
    ("docs/", "docs/a", True),
    ("docs/*", "docs/a/b", True),
    ("*/temp*", "a/temporary", True),
    ("*/temp*", "a/b/temporary", False),
    ("*/*/temp*", "a/b/temporary", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("[a-c].txt", "b.txt", True),
    ("[^a-c].txt", "b.txt", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("# comment", "# comment", False),
    ("", "a", False),
    (".", "a", False),
    ("**", "a/b", True),
    ("a/**", "a/b/c", True),
    ("a/**/z", "a/z", True),
    ("a/**/z", "a/b/c/z", True),
    ("a.c", "abc", False),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("docs\n!docs/keep", "docs/keep", False),
    ("!x", "x", False),
]


@pytest.mark.parametrize(("rules", "path", "out"), CASES)
def test_dockerignore_means_what_docker_says(rules: str, path: str, out: bool) -> None:
    assert ignore.parse(rules).leaves_out(path) is out


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        "sub/.git",
        ".venv",
        ".env",
        ".env.production",
        "a/.ssh",
        "gha-creds-0a1b.json",
        "a/.docker/config.json",
    ],
)
def test_some_things_never_get_in(path: str) -> None:
    assert ignore.parse(f"!{path}").leaves_out(path)


@pytest.mark.parametrize(
    "path", [".env.example", ".gitignore", ".github", "environment.yml", ".docker/Dockerfile"]
)
def test_what_only_looks_alike_gets_in(path: str) -> None:
    assert not ignore.parse("").leaves_out(path)


def test_staging_copies_what_remains_with_modes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_text("true\n")
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "empty").mkdir()
    (source / "link").symlink_to("/etc/hostname")
    (source / "left.bin").write_text("x")
    os.mkfifo(source / "pipe")
    staged = context.stage(source, tmp_path / "out", ignore.parse("*.bin"), link=False)
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert found == {"sub", "sub/run.sh", "empty", "link"}
    assert os.access(tmp_path / "out" / "sub" / "run.sh", os.X_OK)
    assert (tmp_path / "out" / "link").is_symlink()
    assert (staged.files, staged.size_bytes, staged.special) == (1, 5, ("pipe",))


@pytest.mark.parametrize("link", [True, False])
def test_a_kept_file_inside_an_ignored_folder_is_found(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    for name in ("keep.csv", "drop.csv"):
        (source / "data" / name).write_text(name)
    rules = ignore.parse("data\n!data/keep.csv")
    context.stage(source, tmp_path / "out", rules, link=link)
    assert [p.name for p in (tmp_path / "out" / "data").iterdir()] == ["keep.csv"]
    (tmp_path / "out" / "data" / "keep.csv").unlink()
    assert (source / "data" / "keep.csv").read_text() == "keep.csv"
