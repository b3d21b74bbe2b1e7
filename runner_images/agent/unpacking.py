"""Unpack archives of strangers: every name, size and kind is judged before a byte is written.

The standard library's `extractall` trusts too much, so members are read one by one and written to
files made with O_EXCL: nothing is overwritten, no link is made or followed. What others forgot:
https://security.snyk.io/research/zip-slip-vulnerability and https://www.bamsoftware.com/hacks/zipbomb/
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from cynthus.errors import CynthusError
from cynthus.wire_data import TreeFile

BLOCK_BYTES = 1 << 20
NAME_BYTES = 255  # NAME_MAX of Linux' file systems
PATH_BYTES = 1024  # PATH_MAX is 4096: the cache's own folders and the mount come before it
DEPTH = 64  # folders: real data has ten; each costs a lookup for every file below it
FREE_RATIO_BYTES = 256 << 20  # up to here any ratio: every disk has room for it
HEADER_BYTES = 1 << 20  # of a tar member's own extended header, which is read into memory
DIRECTORY_BYTES = 1 << 30  # of a zip's list: 2,000,000 members of 500 bytes
XZ_MEMORY_BYTES = 256 << 20  # `xz -9` takes 65 MB to unpack: xz(1)
# What the standard library's readers raise at bytes that are no archive, slips of theirs included.
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, RuntimeError),
)
_END, _END64, _FINDER64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_COMMENT_BYTES = 65_535 + 22  # the longest comment with the record: APPNOTE.TXT 4.3.16
_MANY16, _MANY32 = 0xFFFF, 0xFFFFFFFF


class BadArchive(CynthusError):  # noqa: N818 - reads as what it is
    """The archive is not unpacked; the text says which member and why."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may become."""

    total_bytes: int  # the room on the disk
    files: int = 2_000_000  # ImageNet's archive on Kaggle has 1.4 million
    #: Unpacked bytes for each packed one. Deflate reaches 1,032 with zeros alone
    #: (https://zlib.net/zlib_tech.html); tables and text stay below 50.
    ratio: float = 200.0


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file that an archive holds."""

    path: str
    size_bytes: int  # as the archive says; what comes may be no more
    executable: bool
    content: Callable[[], IO[bytes]]


def kind_of(path: Path) -> str | None:
    """Return "zip" or "tar" by the file's own first bytes; None: no archive."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", _END):
        return "zip"
    packed = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
    if head.startswith(packed) or head[257:262] == b"ustar":
        return "tar"
    return None


def unpack(
    archive: Path,
    into: Path,
    limits: Limits,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    told: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[Path, TreeFile]]:
    """Write the wanted files below `into`, which is empty; yield each with its hash.

    `told` hears the bytes as they are written, and may raise to stop. Raises: BadArchive; OSError
    when the disk fails.
    """
    guard = _Guard(limits, archive.stat().st_size)
    members = _zip_members if kind_of(archive) == "zip" else _tar_members
    try:
        for member in members(archive, guard):
            if wanted(member.path):
                yield _written(member, into, guard, told)
            else:
                guard.pass_by(member)
    except _DAMAGED as error:
        raise BadArchive(f"{archive.name}: is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's
        raise BadArchive(f"{archive.name}: is damaged: {error}") from error


class _Guard:
    """Counts what an archive asks for, and says no in time."""

    def __init__(self, limits: Limits, packed_bytes: int) -> None:
        self._limits = limits
        most = max(int(packed_bytes * limits.ratio), FREE_RATIO_BYTES)
        self._most = most
        self._names: set[str] = set()
        self._bytes = 0

    def admit(self, name: str) -> str:
        """Return a member's path below the tree. Raises: BadArchive."""
        path = checked_path(name)
        if path in self._names:
            raise BadArchive(f"{name[:200]!r}: is in the archive twice")
        self._names.add(path)
        if len(self._names) > self._limits.files:
            raise BadArchive(f"the archive has more than {self._limits.files} members")
        return path

    def count(self, size_bytes: int) -> None:
        """Count bytes on their way out. Raises: BadArchive."""
        self._bytes += size_bytes
        if self._bytes > self._most:
            text = f"the archive would become more than {self._most} bytes: it looks like a bomb"
            raise BadArchive(text)
        if self._bytes > self._limits.total_bytes:
            room = self._limits.total_bytes
            text = f"the archive's content needs more than the {room} bytes that are free"
            raise BadArchive(f"{text}. Ask for more in resources/disk")

    def pass_by(self, member: Member) -> None:
        """Count what is not wanted too: a tar has to be read through it."""
        self.count(member.size_bytes)


def checked_path(name: str) -> str:
    """Return the path without its harmless `./`, or say what is wrong with it."""
    parts = [part for part in name.split("/") if part != "."]
    if parts and not parts[-1]:
        parts.pop()  # a folder
    shown = repr(name[:200])
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        raise BadArchive(f"{shown}: is no relative path with slashes")
    if not parts or any(part in ("", "..") for part in parts):
        raise BadArchive(f"{shown}: leads out of the archive's folder, or nowhere")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in name):  # noqa: PLR2004 - ASCII's control characters
        raise BadArchive(f"{shown}: has control characters")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise BadArchive(f"{shown}: is not UTF-8") from error
    if max(sizes) > NAME_BYTES or sum(sizes) + len(sizes) > PATH_BYTES or len(parts) > DEPTH:
        raise BadArchive(f"{shown}: is too long or too deep")
    return "/".join(parts)


def _written(
    member: Member, into: Path, guard: _Guard, told: Callable[[int], None]
) -> tuple[Path, TreeFile]:
    target = into / member.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(target, flags, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadArchive(f"{member.path!r}: is a file and a folder at once") from error
    sha256, size = hashlib.sha256(), 0
    with os.fdopen(number, "wb", buffering=0) as file, member.content() as content:
        while block := content.read(BLOCK_BYTES):
            guard.count(len(block))
            size += len(block)
            sha256.update(block)
            file.write(block)
            told(len(block))
    if size != member.size_bytes:
        text = f"{member.path!r}: {size} bytes came, {member.size_bytes} were promised"
        raise BadArchive(text)
    digest = sha256.hexdigest()
    return target, TreeFile(
        path=member.path, size_bytes=size, sha256=digest, executable=member.executable
    )


# ── zip: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT ─────────────────────────────


def _zip_members(archive: Path, guard: _Guard) -> Iterator[Member]:
    with archive.open("rb") as file:
        _check_directory(file, guard)
        with zipfile.ZipFile(file) as opened:
            entries = opened.infolist()
            if sum(entry.compress_size for entry in entries) > archive.stat().st_size:
                raise BadArchive("the archive's members overlap: it looks like a bomb")
            for entry in entries:
                path = guard.admit(entry.orig_filename)
                if not _is_plain(entry):
                    continue
                yield Member(
                    path=path,
                    size_bytes=entry.file_size,
                    executable=bool(entry.external_attr >> 16 & 0o111),
                    content=lambda entry=entry: opened.open(entry),  # type: ignore[misc]
                )


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Say whether it is a file; False: a folder. Raises: BadArchive for anything else."""
    name = repr(entry.orig_filename[:200])
    if entry.flag_bits & 0x1:  # APPNOTE 4.4.4
        raise BadArchive(f"{name}: is encrypted")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # zipfile unpacks a block of bzip2 or LZMA at once: 4 KiB of it may become 4 GB of memory.
        raise BadArchive(f"{name}: should be stored or deflated, found another packing")
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0  # noqa: PLR2004 - 3: Unix, 4.4.2.2
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{name}: is a link or a device")
    return not (entry.is_dir() or kind == stat.S_IFDIR)


def _check_directory(file: BinaryIO, guard: _Guard) -> None:
    """Judge how long the list of members is before it is read into memory."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _COMMENT_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:  # noqa: PLR2004 - the record's own length, 4.3.16
        raise BadArchive("is no whole zip: its list of members is missing")
    count, directory = struct.unpack("<10xHL", tail[at : at + 16])
    if count == _MANY16 or directory == _MANY32:
        finder = tail.rfind(_FINDER64, 0, at)
        if finder >= 0:
            (where,) = struct.unpack("<8xQ", tail[finder : finder + 16])
            file.seek(min(where, size))
            record = file.read(56)
            if record[:4] == _END64 and len(record) == 56:  # noqa: PLR2004 - 4.3.14
                count, directory = struct.unpack("<32xQQ", record[:48])
    file.seek(0)
    if count > guard._limits.files or directory > DIRECTORY_BYTES:  # noqa: SLF001 - of one module
        raise BadArchive(f"the archive has {count} members: more than are unpacked")


# ── tar: https://www.gnu.org/software/tar/manual/html_node/Standard.html ─────────────────────────


class _Header(tarfile.TarInfo):
    """A tar header whose extension is not read into memory whatever its size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        found = super().frombuf(buf, encoding, errors)
        plain = found.type in tarfile.REGULAR_TYPES or found.type in tarfile.SUPPORTED_TYPES
        extension = found.type in (b"L", b"K", b"x", b"g", b"X")
        if (extension or not plain) and found.size > HEADER_BYTES:
            raise BadArchive(f"a header of {found.size} bytes: it looks like a bomb")
        return found


def _tar_members(archive: Path, guard: _Guard) -> Iterator[Member]:
    # Not "r|*": tarfile unpacks all of a block at once, and a megabyte may become a gigabyte.
    with (
        _plain(archive) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, bufsize=BLOCK_BYTES) as opened,
    ):
        while (entry := opened.next()) is not None:
            opened.members.clear()  # type: ignore[attr-defined]  # it would remember all of them
            if entry.isdir() and entry.name.strip("./") == "":
                continue  # the archive's own folder
            path = guard.admit(entry.name)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise BadArchive(f"{entry.name[:200]!r}: is a link, a device or a sparse file")
            yield Member(
                path=path,
                size_bytes=entry.size,
                executable=bool(entry.mode & 0o111),
                content=lambda entry=entry: _content(opened, entry),  # type: ignore[misc]
            )


def _plain(archive: Path) -> IO[bytes]:
    """Open the tar itself, unpacked piece by piece whatever it is packed with."""
    with archive.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(archive)  # type: ignore[return-value]
    if head.startswith(b"BZh"):
        return bz2.open(archive)
    if head == b"\xfd7zXZ\x00":
        return io.BufferedReader(_Xz(archive), BLOCK_BYTES)
    return archive.open("rb")


class _Xz(io.RawIOBase):
    """An xz stream with a bound on memory, which `lzma.open` has not."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self._file = archive.open("rb")
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; 0: the end."""
        while not self._unpacker.eof:
            more = self._file.read(BLOCK_BYTES) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not more:
                raise EOFError("the stream ends early")
            data = self._unpacker.decompress(more, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _content(opened: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(entry)
    if content is None:
        raise BadArchive(f"{entry.name[:200]!r}: has no content")
    return content
