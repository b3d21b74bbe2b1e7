"""What of a source goes into an image, what stays out, and what is said about it."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from action.source import ignore, source
from action.source.source import Kind, Limits, Selection, Why
from cynthus.errors import UserError

GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"


def write(root: Path, **files: str | bytes) -> None:
    """Write files; `__` in a name stands for a folder's `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def chosen(root: Path, *, limits: Limits | None = source.LIMITS) -> Selection:
    return source.select(root, ".", source.rules_of(root), limits=limits)


def paths(selection: Selection) -> list[str]:
    return [item.path for item in selection.items]


def left_out(selection: Selection) -> dict[str, tuple[Why, int | None]]:
    return {one.path: (one.why, one.line) for one in selection.left_out}


def test_files_folders_and_links_are_chosen_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    write(tmp_path, src__b="12", src__a__x="1", other="x")
    (tmp_path / "src/a-b").mkdir()
    (tmp_path / "src/Z").write_text("")
    (tmp_path / "src/b").chmod(0o750)
    (tmp_path / "src/a/link").symlink_to("../b")
    found = source.select(tmp_path, "src", ignore.Ignore())
    assert [(item.path, item.kind, item.size_bytes) for item in found.items] == [
        ("Z", Kind.FILE, 0),
        ("a", Kind.FOLDER, 0),
        ("a-b", Kind.FOLDER, 0),
        ("a/link", Kind.LINK, 0),
        ("a/x", Kind.FILE, 1),
        ("b", Kind.FILE, 2),
    ]
    assert [item.path for item in found.items if item.executable] == ["b"]
    assert (found.files, found.size_bytes, found.left_out) == (3, 3, ())


def test_both_ignore_files_are_read_and_never_packed(tmp_path: Path) -> None:
    write(tmp_path, a__bin="1", b__bin="1", c__txt="1")
    (tmp_path / ".dockerignore").write_text("*/bin")
    (tmp_path / ".cynthusignore").write_text("c\n!a/bin")
    assert paths(chosen(tmp_path)) == ["a", "a/bin", "b"]


def test_a_dockerfiles_own_ignore_file_takes_the_place_of_the_general_one(tmp_path: Path) -> None:
    write(tmp_path, a="1", b="1", c="1")
    (tmp_path / ".dockerignore").write_text("a")
    (tmp_path / "Dockerfile.dockerignore").write_text("b")
    (tmp_path / ".cynthusignore").write_text("c")
    rules = source.rules_of(tmp_path, "Dockerfile.dockerignore")
    assert [rules.leaves_out(path) for path in ("a", "b", "c")] == [False, True, True]


def test_the_folder_of_a_file_kept_in_an_ignored_folder_is_there(tmp_path: Path) -> None:
    write(tmp_path, data__deep__keep="1", data__deep__drop="1", data__empty__drop="1")
    (tmp_path / ".dockerignore").write_text("data\n!data/deep/keep")
    assert paths(chosen(tmp_path)) == ["data", "data/deep", "data/deep/keep"]


def test_links_stay_only_when_they_end_inside(tmp_path: Path) -> None:
    write(tmp_path, src__sub__x="1", outside="1")
    root = tmp_path / "src"
    links = {
        "fine": "sub/x",
        "sub/up": "../sub/./x",
        "gone": "nothing/here",
        "itself": "itself",
        "top": ".",
        "absolute": "/etc/hostname",
        "out": "../outside",
        "back": "../src/sub/x",  # the folder has another name in the image
        "sub/far": "../../outside",
        "chain": "out",
        # As written it stays inside; followed, `sub/top` is the source and `..` is above it.
        "sub/top": "..",
        "hidden": "sub/top/../outside",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = source.select(tmp_path, "src", ignore.Ignore())
    kept = {item.path: item.target for item in found.items if item.kind is Kind.LINK}
    assert sorted(kept) == ["fine", "gone", "itself", "sub/top", "sub/up", "top"]
    assert kept["sub/up"] == "../sub/./x"
    assert set(left_out(found)) == {"absolute", "back", "chain", "hidden", "out", "sub/far"}
    assert {why for why, _ in left_out(found).values()} == {Why.LINK}


def test_what_an_image_cannot_carry_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        tell_of_what_no_image_carries(Path(folder))


def tell_of_what_no_image_carries(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    expected = {"pipe": "is a named pipe", "socket": "is a socket"}
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        expected["null"] = "is a device"
    found = chosen(folder)
    assert found.items == ()
    assert {one.path: one.what.partition(",")[0] for one in found.left_out} == expected


def test_a_name_that_would_delete_files_in_a_layer_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, **{".wh.a": "", ".wh..wh..opq": "", "d__.wh.x__y": "", "d__ok.wh.": ""})
    found = chosen(tmp_path)
    assert paths(found) == ["d", "d/ok.wh."]
    assert set(left_out(found)) == {".wh.a", ".wh..wh..opq", "d/.wh.x"}


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


def test_likely_secrets_are_left_out_and_told_with_their_line(tmp_path: Path) -> None:
    write(tmp_path, **{".env": "x", ".aws__config": "x", "a.py": f"\n\ntoken = '{GITHUB}'\n"})
    found = chosen(tmp_path)
    assert paths(found) == []
    assert left_out(found) == {
        ".aws": (Why.SECRET, None),
        ".env": (Why.SECRET, None),
        "a.py": (Why.SECRET, 3),
    }
    told = source.sentences(found)
    assert told[0] == (
        ".aws is where tools keep credentials; it is left out "
        "(to let a file of it in, write `!.aws/NAME` into .cynthusignore)"
    )
    assert told[2] == (
        "a.py:3 seems to hold a GitHub token; it is left out "
        "(to let it in, write `!a.py` into .cynthusignore)"
    )
    assert GITHUB not in " ".join(told)


def test_only_a_full_name_lets_a_secret_in_and_it_is_told(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            ".env": "x",
            ".aws__config": "x",
            ".aws__credentials": "x",
            "a.py": GITHUB,
            "b.py": GITHUB,
        },
    )
    (tmp_path / ".dockerignore").write_text("!b.py\n")
    (tmp_path / ".cynthusignore").write_text("!*.py\n!.en?\n!a.py\n!.aws/config\n")
    found = chosen(tmp_path)
    assert paths(found) == [".aws", ".aws/config", "a.py"]
    assert set(left_out(found)) == {".aws/credentials", ".env", "b.py"}
    assert found.let_in == (".aws/config", "a.py")
    assert "a.py is let in: .cynthusignore names it" in source.sentences(found)


def test_an_ignored_secret_needs_no_words(tmp_path: Path) -> None:
    write(tmp_path, **{".env": "x", "keys__a.py": GITHUB})
    (tmp_path / ".dockerignore").write_text(".env\nkeys\n!keys/b.py")
    found = chosen(tmp_path)
    assert (paths(found), found.left_out) == ([], ())


def test_a_large_file_is_not_searched(tmp_path: Path) -> None:
    write(tmp_path, a=GITHUB.encode() + bytes(1 << 20), b=b"x" * (1 << 20) + GITHUB.encode())
    assert paths(chosen(tmp_path)) == ["a", "b"]


# ── limits ──────────────────────────────────────────────────────────────────────────────────────


def test_a_huge_file_is_refused_at_once_however_little_disk_it_takes(tmp_path: Path) -> None:
    for name in ("big.bin", "bigger[1].bin"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(5_000_000_000 + len(name))
    with pytest.raises(UserError) as caught:
        chosen(tmp_path)
    assert str(caught.value) == (
        "src: should hold no file above 2.15 GB, found bigger[1].bin (5.00 GB), big.bin (5.00 GB). "
        "Name data under `data:`; or write `bigger\\[1].bin` into .cynthusignore to leave it out, "
        "`!bigger\\[1].bin` to let it in."
    )


def test_a_refusal_stays_one_line_whatever_the_name(tmp_path: Path) -> None:
    write(tmp_path, **{"a\nb": "123"})
    with pytest.raises(UserError) as caught:
        chosen(tmp_path, limits=Limits(file_bytes=2))
    assert "a\\nb (3 B)" in str(caught.value)
    assert "write `a?b` into" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_lines_that_the_refusal_names_work(tmp_path: Path) -> None:
    write(tmp_path, **{"out[1]": "123", "in[1]": "123", "c": "1"})
    limits = Limits(file_bytes=2)
    (tmp_path / ".cynthusignore").write_text("out\\[1]\n!in\\[1]\n")
    found = chosen(tmp_path, limits=limits)
    assert (paths(found), found.let_in) == (["c", "in[1]"], ("in[1]",))


def test_too_much_is_refused_with_the_folders_that_hold_most(tmp_path: Path) -> None:
    write(tmp_path, data__a="12345", data__b="12345", c="1")
    with pytest.raises(UserError, match=r"at most 9 B, found 11 B, most in data \(10 B\), c \(1 B"):
        chosen(tmp_path, limits=Limits(total_bytes=9))
    with pytest.raises(UserError, match=r"at most 2 files, found more, most in data \(2\), c \(1"):
        chosen(tmp_path, limits=Limits(files=2))
    assert chosen(tmp_path, limits=None).size_bytes == 11


def test_a_path_that_no_container_could_open_is_refused(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 20)
    handles = [os.open(tmp_path, os.O_RDONLY)]
    for name in deep.split("/"):
        os.mkdir(name, dir_fd=handles[-1])
        handles.append(os.open(name, os.O_RDONLY, dir_fd=handles[-1]))
    os.mkdir("e" * 80, dir_fd=handles[-1])
    for handle in handles:
        os.close(handle)
    with pytest.raises(
        UserError, match=r"^d{80}…: should be a path of at most 4084 bytes, found 4100"
    ):
        chosen(tmp_path)


# ── odd and unreadable ──────────────────────────────────────────────────────────────────────────


def test_odd_names_are_kept_as_their_bytes_are(tmp_path: Path) -> None:
    names = [
        b"\xff",
        "e\u0301".encode(),
        "\u00e9".encode(),
        b"a\nb",
        b"A",
        b"a",
        b"\xef\xbf\xbf",
        b" ",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("x")
    assert [os.fsencode(path) for path in paths(chosen(tmp_path))] == sorted(names)


def test_odd_names_are_shown_on_one_line_without_what_a_terminal_acts_on() -> None:
    assert source.shown("a\nb\x1b[1m\udcff\u202eé ") == "a\\nb\\x1b[1m\\xff\\u202eé "


@contextmanager
def nobody() -> Iterator[None]:
    """Be someone whom permissions bind, also where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_cannot_be_read_is_named(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        root = Path(folder)
        root.chmod(0o755)
        write(root, a__file="x", a__folder__x="x")
        (root / "a" / name).chmod(0)
        with nobody(), pytest.raises(UserError) as caught:
            chosen(root)
        (root / "a" / name).chmod(0o700)
    assert str(caught.value) == (
        f"a/{name}: should be readable, found: Permission denied. Correct its permissions, or "
        f"write `a/{name}` into .cynthusignore."
    )


def test_a_source_that_cannot_be_read_is_said_to_be_one() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o311)
        with nobody(), pytest.raises(UserError, match=r"^src: should be readable.*permissions\.$"):
            chosen(root)


@pytest.mark.parametrize(("src", "match"), [("no", "found no `no`"), ("out", "a link out of it")])
def test_a_source_that_is_no_folder_of_the_repository_is_refused(
    src: str, match: str, tmp_path: Path
) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/out").symlink_to(tmp_path)
    with pytest.raises(UserError, match=match):
        source.select(tmp_path / "repository", src, ignore.Ignore())
