"""The bytes of objects: taken in and given out piece by piece, hashed on the way.

An object may be larger than the memory of this machine, so nothing here holds a whole one.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from simulators.gcp_http import Body
from simulators.gcp_storage_refusals import bad, bad_hash

CHUNK = 1 << 18
_LARGEST_FIRST_PART = 1 << 20  # the metadata of a multipart upload


class Digest:
    """CRC32C and MD5 of what was added, in Google's spelling."""

    def __init__(self) -> None:
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Return the digest of a file's bytes."""
        digest = cls()
        for _ in digest.counting(read(path, 0, path.stat().st_size)):
            pass
        return digest

    def counting(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same bytes, counted."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def add(self, data: bytes) -> None:
        """Count more bytes."""
        self._crc = google_crc32c.extend(self._crc, data)
        self._md5.update(data)
        self.size += len(data)

    @property
    def crc32c(self) -> str:
        """Return base64 of the big-endian checksum: https://cloud.google.com/storage/docs/hashes-etags."""
        return base64.b64encode(struct.pack(">I", self._crc)).decode()

    @property
    def md5(self) -> str:
        """Return base64 of the MD5."""
        return base64.b64encode(self._md5.digest()).decode()

    def check(self, *, crc32c: str | None, md5: str | None) -> None:
        """Refuse when the client announced other bytes."""
        if crc32c is not None and crc32c != self.crc32c:
            raise bad_hash(
                f'Provided CRC32C "{crc32c}" doesn\'t match calculated CRC32C "{self.crc32c}".'
            )
        if md5 is not None and md5 != self.md5:
            raise bad_hash(
                f'Provided MD5 hash "{md5}" doesn\'t match calculated MD5 hash "{self.md5}".'
            )


def announced(header: str | None) -> dict[str, str]:
    """Return what an `x-goog-hash` header announces: `crc32c` and `md5` where given."""
    pairs = (part.strip().partition("=") for part in (header or "").split(","))
    return {name: value for name, _, value in pairs if name in {"crc32c", "md5"} and value}


def write(path: Path, chunks: Iterable[bytes], *, offset: int = 0) -> int:
    """Write bytes at an offset and return how many there were."""
    written = 0
    flags = os.O_WRONLY | os.O_CREAT
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.seek(offset)
        for chunk in chunks:
            file.write(chunk)
            written += len(chunk)
    return written


def read(path: Path, start: int, length: int) -> Iterator[bytes]:
    """Yield a part of a file; it is opened at once, so that it may be deleted meanwhile."""
    return _pieces(os.open(path, os.O_RDONLY), start, length)


def _pieces(handle: int, start: int, length: int) -> Iterator[bytes]:
    with os.fdopen(handle, "rb") as file:
        file.seek(start)
        while length > 0 and (chunk := file.read(min(CHUNK, length))):
            length -= len(chunk)
            yield chunk


def corrupted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes with the first one changed, as a bad cable would."""
    first = True
    for chunk in chunks:
        yield bytes([chunk[0] ^ 0xFF]) + chunk[1:] if first and chunk else chunk
        first = False


class Related:
    """A `multipart/related` body of two parts: JSON metadata, then the bytes (RFC 2387)."""

    def __init__(self, source: Body, content_type: str) -> None:
        boundary = content_type.partition("boundary=")[2].partition(";")[0].strip().strip("\"'")
        if not boundary:
            raise bad("Invalid multipart request with 0 mime parts.", reason="badContent")
        self._source = source
        self._end = b"\r\n--" + boundary.encode()
        self._rest = b"\r\n"  # the first boundary needs no line before it
        self._next_boundary()
        self.metadata = self._first_part()
        headers = self._until(b"\r\n\r\n")
        self.media_type = _content_type(headers)

    def _more(self) -> bool:
        data = self._source.read(CHUNK)
        self._rest += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            if len(self._rest) > _LARGEST_FIRST_PART or not self._more():
                raise bad("Missing end boundary in multipart body.", reason="badContent")
        found, _, self._rest = self._rest.partition(mark)
        return found

    def _next_boundary(self) -> None:
        self._until(self._end)
        self._until(b"\r\n")

    def _first_part(self) -> bytes:
        _, _, text = self._until(self._end).partition(b"\r\n\r\n")
        self._until(b"\r\n")
        return text

    def media(self) -> Iterator[bytes]:
        """Yield the bytes of the second part; refuses when the body ends too early."""
        # The closing boundary may arrive in pieces: as much as it can fill is held back.
        hold = len(self._end) + 8
        while self._more():
            yield self._rest[:-hold]
            self._rest = self._rest[-hold:]
        media, mark, end = self._rest.rpartition(self._end)
        if not mark or not end.startswith(b"--"):
            raise bad("Missing end boundary in multipart body.", reason="badContent")
        yield media


def _content_type(headers: bytes) -> str:
    for line in headers.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            return value.strip()
    return ""
