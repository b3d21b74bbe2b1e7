"""Write the headers of a tar archive: equal entries give equal bytes everywhere. Pure.

Python's own tarfile writes the same formats, but takes twenty times as long for each small file.
POSIX ustar where it can say it, a PAX extended header before it where it cannot:
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_92_13
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_BYTES = 512
# An archive ends with two empty blocks; no further padding, which only tapes need.
END = bytes(2 * BLOCK_BYTES)
# 1 February 1980, UTC: zip files know no time before 1980, and a program that zips its own source
# would fail; a month later it is 1980 in every time zone. Gradle's archives use it for this reason:
# https://docs.gradle.org/current/kotlin-dsl/gradle/org.gradle.api.tasks.bundling/-abstract-archive-task/get-reproducible-file-timestamp.html
# SOURCE_DATE_EPOCH is not asked: the same source shall be the same layer for every commit.
MTIME = 318_211_200

FILE, LINK, FOLDER = b"0", b"2", b"5"

_NAME_BYTES = 100  # of the fields `name` and `linkname`
_SIZE_LIMIT = 8**11  # what eleven octal digits can say: 8 GiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing in an archive."""

    name: bytes  # a folder's without the `/` at its end
    kind: bytes
    mode: int
    owner: int = 1000  # user and group that the run has: plan.UID
    size_bytes: int = 0
    target: bytes = b""  # of a link


def header(entry: Entry) -> bytes:
    """Return the header blocks of an entry; its content and `padding` follow."""
    name = entry.name + b"/" if entry.kind == FOLDER else entry.name
    records = _records(name, entry)
    own = _ustar(name[:_NAME_BYTES], entry, entry.size_bytes % _SIZE_LIMIT)
    if not records:
        return own
    extended = Entry(name=b"././@PaxHeader", kind=b"x", mode=0o644, owner=0)
    return _ustar(extended.name, extended, len(records)) + records + padding(len(records)) + own


def padding(size_bytes: int) -> bytes:
    """Return what fills the last block of a content."""
    return bytes(-size_bytes % BLOCK_BYTES)


def _records(name: bytes, entry: Entry) -> bytes:
    """Return what the plain header cannot say."""
    said = []
    if len(name) > _NAME_BYTES or not name.isascii():
        said.append((b"path", name))
    if len(entry.target) > _NAME_BYTES or not entry.target.isascii():
        said.append((b"linkpath", entry.target))
    if entry.size_bytes >= _SIZE_LIMIT:
        said.append((b"size", b"%d" % entry.size_bytes))
    if not all(_utf8(value) for _, value in said):
        # Names that are no UTF-8 are bytes to be kept as they are.
        said.insert(0, (b"hdrcharset", b"BINARY"))
    return b"".join(_record(key, value) for key, value in said)


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ustar(name: bytes, entry: Entry, size_bytes: int) -> bytes:
    block = b"%-100b%07o\0%07o\0%07o\0%011o\0%011o\0%8b%b%-100bustar\x0000" % (
        name.ljust(_NAME_BYTES, b"\0"),
        entry.mode,
        entry.owner,
        entry.owner,
        size_bytes,
        MTIME,
        b"",
        entry.kind,
        entry.target[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
    )
    # The sum counts itself as blanks, which is what stands there so far.
    return (block[:148] + b"%06o\0 " % sum(block) + block[156:]).ljust(BLOCK_BYTES, b"\0")
