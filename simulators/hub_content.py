"""The bytes that a hub serves: in memory, in a file, or made from a seed while they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_BLOCK = 1 << 20  # large enough that Python is no limit to a stream's rate
_HEAD = 32  # bytes of each block that no other seed and no other block has
_BASE = hashlib.shake_256(b"the same noise for everybody").digest(_BLOCK)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """Bytes that are made when they are asked for: 2 GB need no memory and no disk."""

    text: str
    size: int

    def block(self, number: int) -> bytes:
        """Return a block: noise, so that nobody compresses or deduplicates it."""
        head = hashlib.sha256(f"{self.text}:{number}".encode()).digest()
        size = min(_BLOCK, self.size - number * _BLOCK)
        return (head + _BASE[_HEAD:size])[:size]


@dataclass(frozen=True)
class Content:
    """Some bytes of known size; its hashes are reckoned once, when asked for."""

    source: bytes | Seed | Path

    @cached_property
    def size(self) -> int:
        """Return how many bytes there are."""
        match self.source:
            case Path():
                return self.source.stat().st_size
            case Seed():
                return self.source.size
            case bytes():
                return len(self.source)

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """Yield the bytes from `start` up to `stop`."""
        end = self.size if stop is None else stop
        match self.source:
            case Path():
                yield from _of_file(self.source, start, end)
            case Seed():
                yield from _of_seed(self.source, start, end)
            case bytes():
                yield memoryview(self.source)[start:end]

    def whole(self) -> bytes:
        """Return everything: for contents that are small."""
        return b"".join(self.pieces())

    @cached_property
    def sha256(self) -> str:
        """Return the SHA-256 in hex."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def md5(self) -> str:
        """Return the MD5 in hex, which Google's storage takes for its ETag."""
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def blob_oid(self) -> str:
        """Return git's name of these bytes as a blob."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


def _of_file(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(_BLOCK, stop - start))):
            start += len(piece)
            yield piece


def _of_seed(seed: Seed, start: int, stop: int) -> Iterator[bytes | memoryview]:
    while start < stop:
        number, skip = divmod(start, _BLOCK)
        piece = memoryview(seed.block(number))[skip : skip + stop - start]
        start += len(piece)
        yield piece
