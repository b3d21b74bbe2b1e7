"""Small files in one archive: what is written is read again, and nothing else is."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynthus.errors import Refused
from cynthus.packing import (
    END,
    PACK_BYTES,
    PackedFile,
    most_stored,
    packed,
    read_index,
    room_for,
    unpack,
)


def a_file(path: str, content: bytes) -> tuple[PackedFile, bytes]:
    digest = hashlib.sha256(content).hexdigest()
    return PackedFile(path=path, size_bytes=len(content), sha256=digest), content


def archive(*files: tuple[PackedFile, bytes]) -> bytes:
    return b"".join(packed(files))


def read(text: bytes) -> list[tuple[PackedFile, bytes]]:
    return [(about, content.read(1 << 20)) for about, content in unpack(io.BytesIO(text))]


PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=300).filter(
    lambda path: len(path.encode()) <= 1024 and not path.startswith((".cynthus", "/"))
)


@given(st.lists(st.tuples(PATHS, st.binary(max_size=1500)), max_size=8))
def test_what_is_packed_is_read_again_also_with_archives_in_a_row(
    given_files: list[tuple[str, bytes]],
) -> None:
    files = [a_file(path, content) for path, content in given_files]
    text = archive(*files)
    assert text == archive(*files)  # the same bytes at every try
    assert len(text) <= sum(room_for(a.path, a.size_bytes) for a, _ in files) + 1024
    assert read(text + text + END) == files + files
    assert list(read_index(io.BytesIO(text))) == [about for about, _ in files]


def test_any_tar_program_reads_it(tmp_path: object) -> None:
    files = [a_file("a/" + "ü" * 200, b"1" * 700), a_file("b", b"")]
    with tarfile.open(fileobj=io.BytesIO(archive(*files) + END)) as found:
        contents = {m.name: (x.read() if (x := found.extractfile(m)) else None) for m in found}
    assert {about.path: content for about, content in files}.items() <= contents.items()


def plain_tar(name: str, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member.tobuf(tarfile.PAX_FORMAT)


GOOD = archive(a_file("a", b"x" * 600), a_file("b", b"y"))
BROKEN = {
    "cut within a file": (GOOD[: len(GOOD) - 1200], "ends within"),
    "cut before a file": (GOOD[: len(GOOD) - 1024], "lacks 1 files"),
    "no index": (plain_tar("a"), "does not name 'a'"),
    "a file more": (GOOD + plain_tar("c"), "does not name 'c'"),
    "a link": (GOOD + plain_tar("c", kind=tarfile.SYMTYPE), "no plain file"),
    "a device": (GOOD + plain_tar("c", kind=tarfile.CHRTYPE), "no plain file"),
    "no archive": (b"x" * 1024, "no archive"),
    "another order": (archive(a_file("b", b"y"))[:1024] + GOOD, "lacks 1"),
}


@pytest.mark.parametrize(("text", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_archive_of_ours_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(text)


def test_a_head_that_claims_gigabytes_is_refused_before_it_is_read() -> None:
    for kind, size in ((tarfile.XHDTYPE, 1 << 30), (tarfile.GNUTYPE_LONGNAME, 1 << 30)):
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, size
        with pytest.raises(Refused, match="no plain file"):
            read(member.tobuf(tarfile.GNU_FORMAT))
    index = tarfile.TarInfo(".cynthus/index-" + "0" * 16 + ".jsonl")
    index.size = 1 << 30
    with pytest.raises(Refused, match="index has"):
        read(index.tobuf())


def test_an_attempt_s_blobs_are_bounded_by_its_bytes() -> None:
    # 20 GiB in files of one byte over 8 MiB, or in archives just over half full.
    assert most_stored(100_000, 20 << 30) >= 500 + (20 << 30) // ((8 << 20) + 1)
    assert most_stored(10, 0) == 10
    assert PACK_BYTES == 16 << 20
