"""The disk keeps data once, whole, for its own repository, and never throws away what is used."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.wire_data import Tree, TreeFile
from runner_images.agent.disk_cache import AGE_LIMIT_S, DiskCache
from runner_images.agent.tree_hash import Follower, digest

NOW = 2_000_000_000.0
A, B = "a" * 64, "b" * 64


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> DiskCache:
    return DiskCache(tmp_path, 7, now=clock)


def keep(cache: DiskCache, key: str, files: dict[str, bytes]) -> None:
    with cache.making(key) as making:
        assert making is not None
        told = []
        for path, data in files.items():
            at = making.work / "x"
            at.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            told.append(TreeFile(path=path, size_bytes=len(data), sha256=sha256))
            making.place(at, told[-1])
        making.commit(Tree(key=key, revision="1", files=tuple(told)))


def blobs(cache: DiskCache) -> set[str]:
    return {path.name[:8] for path in (cache.folder / "blobs").iterdir()}


def test_equal_bytes_lie_once_whatever_their_names(cache: DiskCache) -> None:
    keep(cache, A, {"x": b"same", "d/y": b"same"})
    keep(cache, B, {"z": b"same"})
    held = [cache.hold(A), cache.hold(B)]
    assert all(held)
    inodes = {path.stat().st_ino for path in (cache.folder / "trees").rglob("[xyz]")}
    assert len(inodes) == 1
    assert len(blobs(cache)) == 1


@pytest.mark.case("A13")
def test_a_tree_appears_whole_or_not_at_all(cache: DiskCache) -> None:
    with cache.making(A) as making:
        assert making is not None
        (making.work / "x").write_bytes(b"1")
        file = TreeFile(path="x", size_bytes=1, sha256=hashlib.sha256(b"1").hexdigest())
        making.place(making.work / "x", file)
    assert cache.hold(A) is None
    keep(cache, A, {"x": b"2"})
    held = cache.hold(A)
    assert held is not None
    assert (held.folder / "x").read_bytes() == b"2"


def test_only_one_makes_a_tree_at_a_time(cache: DiskCache, tmp_path: Path) -> None:
    other = DiskCache(tmp_path, 7, now=lambda: NOW)
    with cache.making(A) as making:
        assert making is not None
        with other.making(A) as second:
            assert second is None
        assert other.hold(A) is None
    with other.making(A) as second:
        assert second is not None


@pytest.mark.case("A13")
def test_what_somebody_wrote_to_is_not_believed_any_more(cache: DiskCache) -> None:
    keep(cache, A, {"x": b"good", "y": b"kept"})
    held = cache.hold(A)
    assert held is not None
    held.release()
    victim = held.folder / "x"
    victim.chmod(0o644)
    victim.write_bytes(b"evil")
    assert cache.hold(A) is None
    assert not held.folder.exists()
    keep(cache, A, {"x": b"good", "y": b"kept"})
    again = cache.hold(A)
    assert again is not None
    assert (again.folder / "x").read_bytes() == b"good"


def test_the_longest_unused_goes_first_and_what_is_used_never(
    cache: DiskCache, clock: Clock
) -> None:
    for number, key in enumerate((A, B, "c" * 64)):
        clock.now = NOW + number
        keep(cache, key, {"x": key.encode()})
        held = cache.hold(key)
        assert held is not None
        if key != B:
            held.release()
    cache.make_room(1 << 62)
    assert [kept.key for kept in cache.kept()] == [B]
    assert blobs(cache) == {hashlib.sha256(B.encode()).hexdigest()[:8]}


def test_what_nobody_used_for_two_weeks_goes(cache: DiskCache, clock: Clock) -> None:
    keep(cache, A, {"x": b"old"})
    held = cache.hold(A)
    assert held is not None
    held.release()
    clock.now = NOW + AGE_LIMIT_S - 1
    cache.forget_old()
    assert len(cache.kept()) == 1
    clock.now = NOW + AGE_LIMIT_S + 1
    cache.forget_old()
    assert cache.kept() == []
    assert blobs(cache) == set()


def test_another_repositorys_folder_is_never_touched(tmp_path: Path, clock: Clock) -> None:
    mine, theirs = DiskCache(tmp_path, 7, now=clock), DiskCache(tmp_path, 8, now=clock)
    keep(theirs, A, {"x": b"theirs"})
    clock.now = NOW + 10 * AGE_LIMIT_S
    mine.forget_old()
    mine.make_room(1 << 62)
    assert mine.hold(A) is None
    file = TreeFile(path="x", size_bytes=6, sha256=hashlib.sha256(b"theirs").hexdigest())
    assert not mine.has(file)
    held = theirs.hold(A)
    assert held is not None
    assert (held.folder / "x").read_bytes() == b"theirs"


def test_a_key_that_is_a_path_is_refused(cache: DiskCache) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        cache.hold("../8/trees/" + A)


def test_a_file_is_hashed_as_git_and_as_everybody_does(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"what is up, doc?")  # the example of the Git book
    found = digest(tmp_path / "x", git_blob=True)
    assert found.git_blob == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    assert found.sha256 == hashlib.sha256(b"what is up, doc?").hexdigest()


def test_a_growing_file_is_hashed_on_its_way_and_over_its_renaming(tmp_path: Path) -> None:
    block = bytes(range(256)) * 4096 * 8
    part, seen = tmp_path / "x.incomplete", threading.Event()

    def growing() -> Iterator[Path]:
        if part.exists() and part.stat().st_size >= 5 * len(block):
            yield part
            seen.set()  # asked for the next one: this one is open by now

    with Follower(growing) as follower, part.open("wb", buffering=0) as file:
        for number in range(8):
            file.write(block)
            assert number != 5 or seen.wait(60)
        part.rename(tmp_path / "x")
        follower.finish()
        assert follower.digest(tmp_path / "x") == digest(tmp_path / "x")
