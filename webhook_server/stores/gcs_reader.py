"""Read one object of Cloud Storage in blocks, checked against its own CRC32C."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import google_crc32c
from google.cloud.storage import Blob

from cynthus.errors import Transient

BLOCK_BYTES = 8 << 20  # one request in about 0.1 s: fewer would cost memory, more would cost time


class GcsReader(io.RawIOBase):
    """One generation of one object, in its order or from any place.

    A block that breaks off is asked for again by the client. What is read from the first byte to
    the last is compared with the CRC32C that Cloud Storage keeps; a part alone cannot be.
    """

    def __init__(
        self, blob: Blob, spoken: Callable[[], AbstractContextManager[None]], **patience: Any
    ) -> None:
        super().__init__()
        self._blob, self._spoken, self._patience = blob, spoken, patience
        self._size = int(blob.size)
        self._at = 0
        self._block, self._block_at = b"", 0
        self._sum = google_crc32c.Checksum()
        self._summed = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from elsewhere; asks for nothing yet."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer at the end of a block; nothing at the end.

        Raises: Transient when what came is not what is kept.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        if size == 0 or self._at >= self._size:
            return b""
        offset = self._at - self._block_at
        if not 0 <= offset < len(self._block):
            self._fetch()
            offset = 0
        taken = self._block[offset : offset + size]
        self._at += len(taken)
        return taken

    def _fetch(self) -> None:
        last = min(self._at + BLOCK_BYTES, self._size) - 1
        with self._spoken():
            block = self._blob.download_as_bytes(
                start=self._at,
                end=last,
                raw_download=True,
                checksum=None,  # Cloud Storage tells none for a part: see `_check`
                if_generation_match=self._blob.generation,
                **self._patience,
            )
        if len(block) != last + 1 - self._at:
            raise Transient("Cloud Storage: sent less than it was asked for. Try again.")
        self._check(block)
        self._block, self._block_at = block, self._at

    def _check(self, block: bytes) -> None:
        if self._at != self._summed:
            return
        self._sum.update(block)
        self._summed += len(block)
        kept = self._blob.crc32c
        if self._summed == self._size and base64.b64encode(self._sum.digest()).decode() != kept:
            raise Transient("Cloud Storage: sent other bytes than it keeps (CRC32C). Try again.")
