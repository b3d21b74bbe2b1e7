"""A checkpoint folder belongs to the command: what it puts there is never followed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner_images.agent.checkpoint_folder import Held, emptied, let_in, look, made, opened, still
from runner_images.agent.checkpoint_rules import Look, Stamp
from runner_images.agent.checkpoint_save import _content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    emptied(tmp_path / "ckpt")
    return tmp_path / "ckpt"


def seen(folder: Path) -> dict[str, Stamp]:
    return dict(look(folder, time.time_ns).files)


def test_a_folder_is_writable_for_anybody_and_empty(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "link").symlink_to("/etc")
    (folder / "c").write_text("x")
    emptied(folder)
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o777


def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("theirs")
    (folder / "deep").symlink_to(tmp_path / "secret")
    (folder / "key").symlink_to(tmp_path / "secret" / "key")
    assert seen(folder) == {}
    assert set(look(folder, time.time_ns).left_out) == {"deep", "key"}
    for path in ("deep/key", "key"):
        with pytest.raises(OSError), opened(folder, path):  # noqa: PT011 - ELOOP or ENOTDIR
            pass


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert seen(tmp_path / "nowhere") == {}


def test_what_is_held_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    (folder / "last").write_text("one")
    stamps = seen(folder)
    with Held(folder, tmp_path / "held") as held:
        held.hold(stamps)
        (folder / "next").write_text("two")
        (folder / "next").replace(folder / "last")
        with held.opened("last") as content:
            assert content.read() == b"one"
            assert still(content, stamps["last"])
    assert not (tmp_path / "held").exists()


def test_what_was_left_of_another_holding_is_removed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "0").write_text("of an agent that was killed")
    (folder / "last").write_text("one")
    with Held(folder, tmp_path / "held") as held:
        held.hold(seen(folder))
        with held.opened("last") as content:
            assert content.read() == b"one"


def test_a_file_is_made_once_with_its_folders(folder: Path) -> None:
    with made(folder, "a/b/c", executable=True) as content:
        content.write(b"x")
    assert (folder / "a" / "b" / "c").stat().st_mode & 0o777 == 0o777
    assert (folder / "a" / "b").stat().st_mode & 0o777 == 0o777
    with pytest.raises(FileExistsError), made(folder, "a/b/c", executable=False):
        pass


def test_an_agent_that_is_not_root_is_let_in_below(folder: Path) -> None:
    let_in(folder, 4242)
    (folder / "deep").mkdir()
    granted = os.getxattr(folder, "system.posix_acl_default")
    assert os.getxattr(folder / "deep", "system.posix_acl_default") == granted
    assert (4242).to_bytes(4, "little") in os.getxattr(folder / "deep", "system.posix_acl_access")


def test_folders_without_an_end_are_said_and_harm_nothing(folder: Path) -> None:
    """As deep as a hostile command likes: neither Python's stack nor open files run out."""
    number = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=number)
        below = os.open("d", os.O_RDONLY, dir_fd=number)
        os.close(number)
        number = below
    os.close(number)
    (folder / "d" / "kept").write_text("x")
    found = look(folder, time.time_ns)
    assert set(found.files) == {"d/kept"}
    assert list(found.left_out.values()) == ["its path is longer than 1024 bytes"]
    emptied(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into_is_said(tmp_path: Path) -> None:
    """It would be missing after a restore, and nobody would know why."""
    (tmp_path / "ckpt" / "shut").mkdir(parents=True)
    (tmp_path / "ckpt" / "shut" / "weights").write_text("x")
    (tmp_path / "ckpt" / "open").write_text("x")
    (tmp_path / "ckpt" / "shut").chmod(0)
    tmp_path.chmod(0o755)
    told = in_another_user(tmp_path, lambda: look(Path("ckpt"), time.time_ns))
    assert told == (["open"], {"shut/": "the agent may not look into it (Permission denied)"})


def in_another_user(place: Path, looked: Callable[[], Look]) -> tuple[list[str], dict[str, str]]:
    """Look as somebody who is not root, in a process of its own: root may look anywhere."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writer, "w") as told:
            os.chdir(place)
            if not os.geteuid():
                os.setuid(65_534)  # nobody
            found = looked()
            json.dump([sorted(found.files), dict(found.left_out)], told)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as heard:
        files, left_out = json.load(heard)
    os.waitpid(child, 0)
    return files, left_out


def test_a_file_that_grows_while_it_is_read_is_not_read_without_an_end(
    folder: Path, tmp_path: Path
) -> None:
    """A hostile command makes it sparse and huge after the look: zeros for centuries."""
    (folder / "a").write_bytes(b"weights")
    stamps = seen(folder)
    os.truncate(folder / "a", 1 << 40)
    left_s = iter([1.0] * 20)  # then the test fails by itself
    with Held(folder, tmp_path / "held") as held:
        held.hold(stamps)
        assert _content(held, "a", stamps["a"], lambda: next(left_s)) is None
