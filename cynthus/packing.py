"""Many small files as few archives: how they are written, and read by somebody who trusts nobody.

The format is plain tar (POSIX.1-2001 pax, IEEE 1003.1 "pax Interchange Format"). The first member
of each archive lists all others, one JSON object a line. There is no end mark, so that archives can
be put one behind the other and stay one archive. The rules: docs/outputs.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cynthus.codec import decode, encode
from cynthus.errors import Refused, UserError

AGE_SUFFIX = ".age"  # of an output that was encrypted on the instance
OWN_FOLDER = ".cynthus"  # of the workspace: names in it are ours
#: Files up to this size are read once and sent out of memory; the size up to which Cloud Storage
#: is given a file in one request, too.
SMALL_BYTES = 8 << 20
#: So many small files are stored each by itself, those that come first; the others are packed. A
#: GitHub release holds 1,000 assets: the rest of them is for large files and archives.
FIRST_FILES = 500
PACK_BYTES = 16 << 20  # twice a small file: each archive but the last holds more than half of it
_GANG = 8  # instances that each have their first files, as far as limits count
_INDEX = re.compile(r"\A\.cynthus/index-[0-9a-f]{16}\.jsonl\Z", re.ASCII)
#: An archive of 16 MiB has at most 16,384 members of a block of content and one of head, each with
#: a line of up to 1,024 bytes of path and 150 of digits: more is none of ours.
_INDEX_LIMIT_BYTES = 32 << 20
_EXTENDED_LIMIT_BYTES = 64 << 10  # a path of 1,024 bytes and a size have a twentieth of it
_BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * _BLOCK)


class Readable(Protocol):
    """Something that can be read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; nothing at the end."""


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """One line of an index."""

    path: str
    size_bytes: int
    sha256: str  # 64 hex digits


def most_stored(files: int, total_bytes: int) -> int:
    """Return how many single blobs an attempt needs that keeps to these limits.

    Large files are over SMALL_BYTES, and so is every archive but the last of each instance.
    """
    return min(files, _GANG * (FIRST_FILES + 2)) + total_bytes // SMALL_BYTES


def pack_name(number: int) -> str:
    """Return the path of the so-manieth archive of an attempt."""
    return f"{OWN_FOLDER}/packed-{number:04}.tar"


def room_for(path: str, size_bytes: int) -> int:
    """Return what a file takes of an archive at most: heads, filler and its line of the index."""
    heads = 3 * _BLOCK  # its own, and two of a name that is too long for it
    return heads + _BLOCK + size_bytes + 2 * len(path.encode("utf-8", "replace")) + 150


def packed(files: Sequence[tuple[PackedFile, bytes]]) -> list[bytes]:
    """Return the blocks of an archive: the same ones for the same files, wherever it is made."""
    lines = "".join(
        json.dumps(encode(about), ensure_ascii=False, sort_keys=True) + "\n" for about, _ in files
    ).encode()
    digest = hashlib.sha256(lines).hexdigest()[:16]
    blocks = _member(f"{OWN_FOLDER}/index-{digest}.jsonl", lines)
    for about, content in files:
        blocks += _member(about.path, content)
    return blocks


def _member(path: str, content: bytes) -> list[bytes]:
    member = tarfile.TarInfo(path)
    member.size = len(content)
    head = member.tobuf(tarfile.PAX_FORMAT)
    return [head, content, bytes(-len(content) % _BLOCK)]


class Content:
    """The bytes of one member on their way out of an archive."""

    def __init__(self, source: Readable, size_bytes: int) -> None:
        self._source, self._left = source, size_bytes
        self._rest = -size_bytes % _BLOCK

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; nothing at the end. Raises: Refused when it is cut off."""
        wanted = min(size, self._left)
        if not wanted:
            return b""
        found = self._source.read(wanted)
        if not found:
            raise _broken("it ends within a file")
        self._left -= len(found)
        return found

    def finish(self) -> None:
        """Pass by what was not read, up to the next member."""
        while self.read(1 << 20):
            pass
        _exactly(self._source, self._rest)
        self._rest = 0


def members(source: Readable) -> Iterator[tuple[str, int, Content]]:
    """Yield name, size and content of each file of a plain archive, in bounded memory.

    What an index says is left to whoever has a better list. Raises: Refused for anything that is
    no plain file.
    """
    while (member := _next(source)) is not None:
        content = Content(source, member.size)
        if not _INDEX.match(member.name):
            yield member.name, member.size, content
        content.finish()


def unpack(source: Readable) -> Iterator[tuple[PackedFile, Content]]:
    """Yield each file of an archive, or of several in a row, in bounded memory.

    Nothing but files that the index before them names, in its order, is taken; whether names are
    fit for this machine and contents what the index says is the caller's to check.
    Raises: Refused for anything else.
    """
    awaited: list[PackedFile] = []
    while (member := _next(source)) is not None:
        content = Content(source, member.size)
        if _INDEX.match(member.name):
            if awaited:
                raise _broken(f"it lacks {len(awaited)} files of its index")
            awaited = _index(content, member.size)
        elif not awaited or (awaited[-1].path, awaited[-1].size_bytes) != (
            member.name,
            member.size,
        ):
            raise _broken(f"its index does not name {member.name[:200]!r} there")
        else:
            yield awaited.pop(), content
        content.finish()
    if awaited:
        raise _broken(f"it lacks {len(awaited)} files of its index")


def read_index(source: Readable) -> tuple[PackedFile, ...]:
    """Return what an archive of one index lists, by its first member alone. Raises: Refused."""
    member = _next(source)
    if member is None or not _INDEX.match(member.name):
        raise _broken("it does not begin with its index")
    return tuple(reversed(_index(Content(source, member.size), member.size)))


def _index(content: Content, size_bytes: int) -> list[PackedFile]:
    """Return the lines of an index, the last one first."""
    if size_bytes > _INDEX_LIMIT_BYTES:
        raise _broken(f"its index has {size_bytes} bytes")
    text = b""
    while block := content.read(1 << 20):
        text += block
    try:
        lines = [decode(PackedFile, json.loads(line)) for line in text.splitlines()]
    except (ValueError, RecursionError, UserError) as error:
        raise _broken("its index cannot be read") from error
    return lines[::-1]


def _next(source: Readable) -> tarfile.TarInfo | None:
    """Return the next member's head; None at the end."""
    extended: dict[str, str] = {}
    while True:
        block = _exactly(source, _BLOCK, or_end=True)
        if not block or not any(block):
            return None
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise _broken("it is no archive") from error
        if member.type == tarfile.XHDTYPE and member.size <= _EXTENDED_LIMIT_BYTES:
            extended = _records(_exactly(source, member.size))
            _exactly(source, -member.size % _BLOCK)
            continue
        if member.type != tarfile.REGTYPE or member.size < 0:
            raise _broken(f"{member.name[:200]!r} is no plain file")
        member.name = extended.get("path", member.name)
        size = extended.get("size", str(member.size))
        if not re.fullmatch(r"[0-9]{1,18}", size, re.ASCII):
            raise _broken("the size of a file is no number")
        member.size = int(size)
        return member


def _records(text: bytes) -> dict[str, str]:
    """Read lines of LENGTH KEY=VALUE; LENGTH counts all of a line, up to its end."""
    found: dict[str, str] = {}
    while text:
        length, space, _ = text.partition(b" ")
        if not space or not re.fullmatch(rb"[0-9]{1,6}", length):
            raise _broken("a head cannot be read")
        record, text = text[: int(length)], text[int(length) :]
        name, equals, value = record[len(length) + 1 :].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise _broken("a head cannot be read")
        found[name.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
    return found


def _exactly(source: Readable, size: int, *, or_end: bool = False) -> bytes:
    found = b""
    while len(found) < size:
        block = source.read(size - len(found))
        if not block:
            if or_end and not found:
                return b""
            raise _broken("it ends within a head")
        found += block
    return found


def _broken(how: str) -> Refused:
    return Refused(
        f"archive of outputs: should be as Cynthus writes it, but {how}. Fetch it again."
    )
