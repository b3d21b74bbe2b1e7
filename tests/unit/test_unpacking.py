"""Archives of strangers are unpacked whole, or refused with a reason and without harm."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_images.agent.staging_archive import _Hashing
from runner_images.agent.unpacking import BadArchive, Limits, checked_path, kind_of, unpack
from simulators.hub_hostile import TARS, ZIPS, hostile_tar, hostile_zip

ROOM = Limits(total_bytes=1 << 30)
# What is left of the corpus once its gigabyte bombs are made small: making them takes seconds.
QUICK_ZIPS = sorted(set(ZIPS) - {"bomb", "nested", "many"})
QUICK_TARS = sorted(set(TARS) - {"bomb", "setuid"})


def unpacked(archive: Path, into: Path, limits: Limits = ROOM) -> dict[str, bytes]:
    into.mkdir()
    found = {}
    for at, file in unpack(archive, into, limits):
        data = at.read_bytes()
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.size_bytes == len(data)
        found[file.path] = data
    return found


def a_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def a_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


FILES = {"a.txt": b"a", "d/e/b.bin": bytes(range(256)) * 5000, "empty": b"", "ünï 💾.txt": b"u"}


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    assert unpacked(a_zip(tmp_path / "x.zip", FILES), tmp_path / "out") == FILES


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_all_packings_are_unpacked(tmp_path: Path, mode: str) -> None:
    archive = a_tar(tmp_path / "x", FILES, mode)
    assert kind_of(archive) == "tar"
    assert unpacked(archive, tmp_path / "out") == FILES


def test_programs_stay_programs_and_no_other_bit_comes_along(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(hostile_tar("setuid"))
    (tmp_path / "out").mkdir()
    files = [file for _, file in unpack(archive, tmp_path / "out", ROOM)]
    assert [(file.path, file.executable) for file in files] == [
        ("honest.txt", False),
        ("root-shell", True),
    ]
    assert (tmp_path / "out" / "root-shell").stat().st_mode & 0o7777 == 0o600


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.case("A18")
@pytest.mark.parametrize("kind", QUICK_ZIPS)
def test_hostile_zips_are_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(hostile_zip(kind))
    with pytest.raises(BadArchive):
        unpacked(archive, tmp_path / "out")
    assert everything_below(tmp_path) <= {"x.zip", "out", "out/honest.txt", "out/twice.txt",
                                          "out/0000.bin", "out/small.bin"}  # fmt: skip


@pytest.mark.case("A18")
@pytest.mark.parametrize("kind", QUICK_TARS)
def test_hostile_tars_are_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(hostile_tar(kind))
    with pytest.raises(BadArchive):
        unpacked(archive, tmp_path / "out")
    allowed = {"x.tar.gz", "out", "out/honest.txt", "out/more.bin"}
    assert everything_below(tmp_path) <= allowed


@pytest.mark.case("A18")
@pytest.mark.parametrize("make", [a_zip, a_tar], ids=["zip", "tar"])
def test_a_bomb_stops_early(tmp_path: Path, make: type) -> None:
    archive = make(tmp_path / "x", {"zeros": bytes(300 << 20)})
    with pytest.raises(BadArchive, match="looks like a bomb"):
        unpacked(archive, tmp_path / "out")
    assert (tmp_path / "out" / "zeros").stat().st_size <= 257 << 20


def test_what_does_not_fit_on_the_disk_stops_early(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "x.zip", {"a": bytes(5 << 20)})
    with pytest.raises(BadArchive, match="more than the 1000 bytes that are free"):
        unpacked(archive, tmp_path / "out", Limits(total_bytes=1000))


@pytest.mark.parametrize("make", [a_zip, a_tar], ids=["zip", "tar"])
def test_more_members_than_allowed_are_refused(tmp_path: Path, make: type) -> None:
    archive = make(tmp_path / "x", {str(number): b"" for number in range(11)})
    limits = Limits(total_bytes=1 << 20, files=10)
    with pytest.raises(BadArchive, match="more than"):
        unpacked(archive, tmp_path / "out", limits)


def test_a_tars_giant_header_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 10 << 30
    (tmp_path / "x.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(BadArchive, match="a header of 10737418240 bytes"):
        unpacked(tmp_path / "x.tar", tmp_path / "out")


def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "x.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(BadArchive, match="a file and a folder at once"):
        unpacked(archive, tmp_path / "out")


def test_what_is_no_archive_is_known_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2\n")
    assert kind_of(tmp_path / "x.csv") is None


NAMES = st.text(
    st.one_of(st.sampled_from("./\\.~:\0\n-ab"), st.characters(exclude_categories=("Cs",))),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_an_admitted_path_stays_below_its_folder(name: str) -> None:
    try:
        path = checked_path(name)
    except BadArchive:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert all(part not in ("", ".", "..") for part in parts)
    assert all(len(part.encode()) <= 255 for part in parts)
    assert "\0" not in path


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_bytes_are_an_archive_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    make = data.draw(st.sampled_from([a_zip, a_tar]))
    whole = bytearray(make(folder / "whole", {"a": b"content", "d/b": bytes(600)}).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "x").write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    try:
        found = unpacked(folder / "x", folder / "out")
    except BadArchive:
        found = {}
    below = {p for p in everything_below(folder) if p not in ("x", "whole", "out")}
    assert all(path.startswith("out/") for path in below)
    assert sum(map(len, found.values())) < 1 << 20


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_python_unpacks_at_once_is_refused(tmp_path: Path, packing: int) -> None:
    """Four kilobytes of bzip2 may be four gigabytes, which zipfile holds in memory at once."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", packing) as archive:
        archive.writestr("a", b"a")
    with pytest.raises(BadArchive, match="stored or deflated"):
        unpacked(tmp_path / "x.zip", tmp_path / "out")


def test_an_archive_that_cannot_be_hashed_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _Hashing(tmp_path / "gone").result()
