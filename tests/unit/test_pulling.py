"""Fetching outputs: whole and proven, gone on with after a cut, hostile names left out."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from cynthus.decrypting import Identity
from cynthus.errors import Refused, Transient, UserError
from cynthus.packing import END, PackedFile, packed
from cynthus.placing import OWN_FOLDER
from cynthus.pulling import Item, Piece, Puller, Standing, leftovers, total_bytes

CONTENT = os.urandom(1 << 16) * 50


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Place:
    """Where bytes lie: knows ranges or not, and breaks off where it is told to."""

    content: bytes
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # so many bytes an answer, one after the other
    asked: list[int] = field(default_factory=list)

    def open(self, at: int) -> tuple[Any, int]:
        self.asked.append(at)
        begins = at if self.ranges else 0
        most = self.cuts.pop(0) if self.cuts else len(self.content)
        return io.BytesIO(self.content[begins : begins + most]), begins

    @property
    def piece(self) -> Piece:
        return Piece(size_bytes=len(self.content), open=self.open)


def an_item(path: str, content: bytes, *places: Place, **more: Any) -> Item:
    pieces = tuple(place.piece for place in places or (Place(content),))
    told = {"path": path, "size_bytes": len(content), "sha256": sha256(content), "pieces": pieces}
    return Item(**(told | more))


def pulled(folder: Path, *items: Item, **more: Any) -> Standing:
    standing = Standing(total_bytes=total_bytes(items), total_files=len(items))
    Puller(folder, wait=lambda _: None, **more).pull(items, standing)
    return standing


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_file_goes_on_where_it_ended(tmp_path: Path, ranges: bool) -> None:
    place = Place(CONTENT, ranges=ranges, cuts=[1000, len(CONTENT) - 1])
    standing = pulled(tmp_path, an_item("a", CONTENT, place))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert place.asked == ([0, 1000] if ranges else [0, 1000, len(CONTENT) - 1])
    assert (standing.files, standing.bytes, standing.faults) == (1, len(CONTENT), [])


def test_a_stop_keeps_what_has_come_and_the_next_call_goes_on_there(tmp_path: Path) -> None:
    with pytest.raises(Transient):
        pulled(tmp_path, an_item("a", CONTENT, Place(CONTENT, cuts=[5000, *[0] * 20])))
    assert leftovers(tmp_path) == 5000
    assert not (tmp_path / "a").exists()  # nobody sees half a file
    place = Place(CONTENT)
    standing = pulled(tmp_path, an_item("a", CONTENT, place))
    assert place.asked == [5000]
    assert standing.fetched_bytes == len(CONTENT) - 5000
    assert names(tmp_path) == {"a"}


def test_a_spoiled_beginning_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / OWN_FOLDER).mkdir()
    (tmp_path / OWN_FOLDER / sha256(CONTENT)).write_bytes(b"spoiled")
    place = Place(CONTENT)
    assert pulled(tmp_path, an_item("a", CONTENT, place)).faults == []
    assert place.asked == [7, 0]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_parts_become_one_file_also_across_a_cut(tmp_path: Path) -> None:
    cuts = [CONTENT[:100], CONTENT[100:100_000], CONTENT[100_000:]]
    places = [Place(cuts[0]), Place(cuts[1], cuts=[10]), Place(cuts[2])]
    pulled(tmp_path, an_item("a", CONTENT, *places))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [place.asked for place in places] == [[0], [0, 10], [0]]


def test_other_bytes_than_announced_are_left_out_and_hold_up_no_other(tmp_path: Path) -> None:
    bad = an_item("bad", CONTENT, Place(CONTENT[::-1]))
    hostile = an_item("../hostile", b"x")
    standing = pulled(tmp_path, bad, hostile, an_item("good", b"good"), an_item("empty", b""))
    assert names(tmp_path) == {"good", "empty"}
    assert standing.files == 2
    assert [fault.partition(": should")[0] for fault in sorted(standing.faults)] == [
        "bad",
        "output '../hostile'",
    ]


def test_what_is_there_is_not_fetched_and_what_was_changed_is(tmp_path: Path) -> None:
    place = Place(CONTENT)
    for asked in ([0], [0], [0, 0]):
        if len(asked) == 2:
            (tmp_path / "a").write_bytes(CONTENT[::-1])
        pulled(tmp_path, an_item("a", CONTENT, place))
        assert place.asked == asked
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    pulled(tmp_path, an_item("a", CONTENT, place))  # in place of the link, not through it
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "a").read_bytes() == CONTENT


# ── archives ────────────────────────────────────────────────────────────────────────────────────


def about(path: str, content: bytes) -> PackedFile:
    return PackedFile(path=path, size_bytes=len(content), sha256=sha256(content))


def a_pack(**files: bytes) -> bytes:
    return b"".join(packed([(about(path, content), content) for path, content in files.items()]))


def test_an_archive_is_unpacked_once_and_what_is_missing_later_comes_again(tmp_path: Path) -> None:
    content = a_pack(**{"outputs/a": b"1", "outputs/b": b"22"})
    place = Place(content)
    path = "rank-1/.cynthus/packed-0001.tar"
    item = an_item(path, content, place, archive=True, prefix="rank-1/")
    for times in (1, 1, 2):
        if times == 2:
            (tmp_path / "rank-1" / "outputs" / "b").unlink()
        assert pulled(tmp_path, item).faults == []
        assert len(place.asked) == times
        assert (tmp_path / "rank-1" / "outputs" / "a").read_bytes() == b"1"
        assert (tmp_path / "rank-1" / "outputs" / "b").read_bytes() == b"22"


@pytest.mark.case("A16")
def test_a_hostile_member_stays_out_and_the_others_come(tmp_path: Path) -> None:
    content = a_pack(**{"../a": b"1", "good": b"2", "/etc/b": b"3"})
    standing = pulled(tmp_path / ".", an_item("p.tar", content, archive=True))
    assert (tmp_path / "good").read_bytes() == b"2"
    assert len(standing.faults) == 2
    assert not (tmp_path.parent / "a").exists()


def test_a_release_s_archive_must_hold_what_the_manifest_says(tmp_path: Path) -> None:
    content = a_pack(a=b"1", b=b"22") + a_pack(c=b"3") + END
    wanted = {"a": about("x/a", b"1"), "b": about("x/b", b"22"), "c": about("x/c", b"3")}
    item = an_item("packed-001.tar", content, sha256=None, archive=True, members=wanted)
    assert pulled(tmp_path, item).faults == []
    assert names(tmp_path / "x") == {"a", "b", "c"}
    for changed in (
        wanted | {"d": about("x/d", b"")},
        {name: one for name, one in wanted.items() if name != "b"},
        wanted | {"b": about("x/b", b"2")},
    ):
        folder = tmp_path / str(len(changed)) / changed["a"].sha256[: len(changed)]
        folder.mkdir(parents=True, exist_ok=True)
        [fault] = pulled(folder, replace(item, members=changed)).faults
        assert fault.startswith("packed-001.tar: should")
    [fault] = pulled(
        tmp_path / "x", replace(item, members=wanted | {"b": about("x/b", b"2x")})
    ).faults[:1]
    assert "x/b: should have the SHA-256" in fault


# ── encrypted ───────────────────────────────────────────────────────────────────────────────────

KEY = pyrage.x25519.Identity.generate()


@pytest.fixture
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "key.txt"
    file.write_text(f"# public key: {KEY.to_public()}\n{KEY}\n")
    return file


def encrypted(path: str, plain: bytes, **more: Any) -> Item:
    content = pyrage.encrypt(plain, [KEY.to_public()])
    told = {"plain_size_bytes": len(plain), "plain_sha256": sha256(plain)}
    return an_item(path, content, **(told | more))


def test_with_the_key_files_and_archives_are_decrypted(tmp_path: Path, key_file: Path) -> None:
    items = (
        encrypted("outputs/w.age", b"weights"),
        encrypted(".cynthus/packed-0001.tar.age", a_pack(a=b"1"), archive=True),
    )
    for _ in range(2):
        assert pulled(tmp_path, *items, identity=Identity(key_file)).faults == []
    assert (tmp_path / "outputs" / "w").read_bytes() == b"weights"
    assert (tmp_path / "a").read_bytes() == b"1"


def test_without_a_key_they_stay_as_they_are_and_that_is_said(tmp_path: Path) -> None:
    standing = pulled(tmp_path, encrypted("w.age", b"weights"))
    assert standing.notes == ["w.age: stays encrypted. Give your key with --identity."]
    assert names(tmp_path) == {"w.age"}


def test_another_s_key_and_another_plain_text_are_refused(tmp_path: Path, key_file: Path) -> None:
    lie = encrypted("w.age", b"weights", plain_sha256=sha256(b"WEIGHTS"))
    assert "before it was encrypted" in pulled(tmp_path, lie, identity=Identity(key_file)).faults[0]
    other = tmp_path / "other.txt"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    item = encrypted("w.age", b"weights")
    [fault] = pulled(tmp_path, item, identity=Identity(other)).faults
    assert fault.startswith("w.age: should be encrypted to the key of --identity")
    assert not (tmp_path / "w").exists()


def test_a_file_without_a_key_is_the_users_error_and_shows_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text("AGE-SECRET-KEY-1SOMETHING")
    with pytest.raises(UserError, match="found none in") as error:
        Identity(file)
    assert "SOMETHING" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        Identity(tmp_path / "absent")


def test_refusals_of_the_place_are_told(tmp_path: Path) -> None:
    def gone(_: int) -> tuple[Any, int]:
        raise Refused("blob: is not here. It may have been removed.")

    asks: Callable[[int], tuple[Any, int]] = gone
    item = replace(an_item("a", b"x"), pieces=(Piece(size_bytes=1, open=asks),))
    assert pulled(tmp_path, item).faults == ["blob: is not here. It may have been removed."]
    assert names(tmp_path) == set()


def test_a_file_that_is_larger_than_its_parts_is_not_filled_up_with_them(tmp_path: Path) -> None:
    """A manifest that lies would have the disk filled with the last part again and again."""
    place = Place(b"x" * 1000)
    standing = pulled(tmp_path, an_item("a", b"x" * 1000, place, size_bytes=10**7))
    assert place.asked == []
    assert "should be as large as its parts" in standing.faults[0]
    assert names(tmp_path) == set()


@pytest.mark.case("A16")
@pytest.mark.parametrize("told", ["../../evil", "/tmp/evil", "a/b", "é" * 200])
def test_a_digest_is_no_name_of_a_file(tmp_path: Path, told: str) -> None:
    """What half comes is written before it is proven: never where a server wants it."""
    target = tmp_path / "here" / "there"
    target.mkdir(parents=True)
    told = told.replace("/tmp/", f"{tmp_path}/")
    standing = pulled(target, an_item("a", b"x", sha256=told))
    assert "found another" in standing.faults[0]
    assert names(tmp_path) == set()
