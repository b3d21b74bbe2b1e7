"""Read an asset's bytes from where they lie, as one file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from cynthus.errors import Refused
from webhook_server.runs.model import Run
from webhook_server.runs.outputs import made_by
from webhook_server.runs.release import AssetPlan, Literal, Segment

_CHUNK = 1 << 20


class Blobs(Protocol):
    """Where the outputs lie."""

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading, or None when it is not here."""


def output_key(run: Run, path: str, blob_key: Callable[[int, str, int, str], str]) -> str:
    """Return where an output lies: with those of the attempt that made it."""
    attempt = made_by(run)
    number = attempt.number if attempt else 0
    return blob_key(run.key.repository_id, run.id, number, path)


class AssetFile(io.RawIOBase):
    """An asset as one file; `digest` is known once all of it was read."""

    def __init__(self, plan: AssetPlan, open_output: Callable[[str], BinaryIO]) -> None:
        super().__init__()
        self._plan, self._open_output = plan, open_output
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._at = 0
        self.digest = hashlib.sha256()
        self.seek(0)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read again from its beginning."""
        return True

    def tell(self) -> int:
        """Return how much was read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to the beginning."""
        if offset != 0 or whence != io.SEEK_SET:
            raise io.UnsupportedOperation("an asset can only be read from its beginning")
        self._chunks = self._read_all()
        self._rest, self._at, self.digest = b"", 0, hashlib.sha256()
        return 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer at a seam; nothing at the end."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        self._at += len(taken)
        self.digest.update(taken)
        return taken

    def _read_all(self) -> Iterator[bytes]:
        for segment in self._plan.segments:
            yield from self._read_segment(segment)

    def _read_segment(self, segment: Segment) -> Iterator[bytes]:
        if isinstance(segment, Literal):
            yield segment.data
            return
        left = segment.size_bytes
        with self._open_output(segment.path) as file:
            file.seek(segment.offset)
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise Refused(f"output {segment.path!r} is shorter than it was when it was collected.")


def digest_of(plan: AssetPlan, open_output: Callable[[str], BinaryIO]) -> str:
    """Return the asset's SHA-256: what the manifest says, or else by reading it."""
    if plan.sha256 is not None:
        return plan.sha256
    file = AssetFile(plan, open_output)
    while file.read(_CHUNK):
        pass
    return file.digest.hexdigest()
