"""`.dockerignore` means what Docker says, and some things never get in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from action.source import context, ignore
from cynthus.errors import UserError

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


# Where the pages are silent: moby/patternmatcher's source, and what `docker build` does (tests/
# action/test_ignore_like_docker.py).
QUIRKS = [
    ("**b", "a/xb", True),
    ("**b?", "a/xbc", False),
    ("**b?", "a/bc", True),
    ("a**b", "ab", True),
    ("a**b", "ax/b", True),
    ("a**b", "axb", False),
    ("a**", "abc/d", True),
    ("**/", "a", True),
    ("[!a]", "!", True),
    ("[a\\-c]", "b", False),
    ("[a\\]]", "]", True),
    ("[[]", "[", True),
    ("[a&&b]", "&", True),
    ("a/../b", "b", True),
    ("  b  ", "b", True),
    ("! b", "b", False),
    ("b\n!b\n", "b", False),
    ("\ufeffb", "b", True),
    ("b\x0bc", "b", False),
    # `!a` can change nothing for `a` itself, so it does not count for what lies in `a`.
    ("a/b\n!a", "a/b", True),
    ("*\n!a\na/b", "a/b", True),
    ("*\n!a\na/b", "a/c", False),
]


@pytest.mark.parametrize(("rules", "path", "out"), QUIRKS)
def test_dockerignore_means_what_docker_does(rules: str, path: str, out: bool) -> None:
    assert ignore.parse(rules).leaves_out(path) is out


@pytest.mark.parametrize("line", ["[", "[a", "[]a]", "[-a]", "[a-]", "a\\", "!", "[c-a]"])
def test_a_line_that_is_no_pattern_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(UserError, match="should be a pattern") as caught:
        ignore.parse(f"ok\n{line}\n", ".cynthusignore")
    assert [(fault.path, fault.line) for fault in caught.value.faults] == [(".cynthusignore", 2)]


def test_a_refused_line_that_is_no_text_can_still_be_printed() -> None:
    with pytest.raises(UserError) as caught:
        ignore.parse(b"[\xff")
    assert "found `[\\udcff`" in str(caught.value)


# No deadline: machines are shared. The same examples every time: a failure must repeat.
@settings(deadline=None, derandomize=True)
@given(st.text(alphabet="ab*?[]!#\\ -.é\n\t\udc80", min_size=1, max_size=8))
def test_the_literal_line_of_a_path_means_that_path(name: str) -> None:
    assume(name not in {".", ".."})
    line = ignore.literal(name)
    rules = ignore.parse(f"{line}\n!{line}\nab/{line}", ".cynthusignore")
    assert [rules.leaves_out(path) for path in (name, f"ab/{name}", f"{name}a")] == [
        False,
        True,
        False,
    ]
    assert ignore.parse(line).leaves_out(name)
    if name.isprintable() and name == name.strip():
        assert rules.let_in == {name}
        assert not ignore.parse(line).leaves_out(f"a{name[1:]}" if name[0] != "a" else "b")
    else:
        assert rules.let_in == set()


@pytest.mark.parametrize("name", sorted(ignore.NEVER))
def test_some_things_never_get_in(name: str) -> None:
    assert ignore.parse(f"!{name}", ".cynthusignore").leaves_out(f"sub/{name}/x")


@pytest.mark.parametrize("path", [".gitignore", ".github", "environment.yml", ".docker/Dockerfile"])
def test_what_only_looks_alike_gets_in(path: str) -> None:
    assert not ignore.parse("").leaves_out(path)


def test_our_own_file_adds_to_dockers_and_wins() -> None:
    rules = ignore.parse("*.bin\nb").then(ignore.parse("!a.bin\nc", ".cynthusignore"))
    out = {path: rules.leaves_out(path) for path in ("a.bin", "b.bin", "b", "c", "d")}
    assert out == {"a.bin": False, "b.bin": True, "b": True, "c": True, "d": False}


def test_only_our_own_file_lets_in_and_only_by_a_full_name() -> None:
    text = "!.env\n!keys/*\n!/a/b.pem\n!\\*.key"
    assert ignore.parse(text).let_in == set()
    assert ignore.parse(text, ".cynthusignore").let_in == {".env", "a/b.pem", "*.key"}


def test_staging_copies_what_remains_with_modes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_text("true\n")
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "empty").mkdir()
    (source / "link").symlink_to("sub/run.sh")
    (source / "left.bin").write_text("x")
    (source / ".env").write_text("x")
    os.mkfifo(source / "pipe")
    staged = context.stage(source, tmp_path / "out", ignore.parse("*.bin"), link=False)
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert found == {"sub", "sub/run.sh", "empty", "link"}
    assert os.access(tmp_path / "out" / "sub" / "run.sh", os.X_OK)
    assert (tmp_path / "out" / "link").is_symlink()
    assert (staged.files, staged.size_bytes) == (1, 5)
    assert [sentence.partition(" ")[0] for sentence in staged.told] == [".env", "pipe"]


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
