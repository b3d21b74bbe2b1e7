"""Read a file once and know at its end what was read: size, digests, and no secret in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO

from runner_images.agent.door import Unanswered
from runner_images.agent.masking import Masks

BLOCK_BYTES = 1 << 20


class LeftOut(Exception):  # noqa: N818 - reads as what happened
    """This output stays behind; the text says why."""


class Changed(Exception):  # noqa: N818 - as above
    """The file was written to while it was read."""


class Guard:
    """Looks for secret values in what is read, block after block, before any of it is sent."""

    def __init__(self, masks: Masks, left_s: Callable[[], float], no_time: str) -> None:
        self._masks, self._left_s, self._no_time = masks, left_s, no_time
        self._tail = b""

    def look(self, block: bytes) -> None:
        """Raise LeftOut where a value shows, also across two blocks, or when no time is left."""
        if self._left_s() <= 0:
            raise LeftOut(self._no_time)
        joined = self._tail + block if self._tail else block
        if self._masks.in_bytes(joined):
            raise LeftOut("it holds the value of a secret")
        overlap = self._masks.overlap_bytes
        self._tail = joined[-overlap:] if overlap else b""


class Measured:
    """A file on its way out. What is read again after a cut is not measured again."""

    def __init__(
        self, file: BinaryIO, size_bytes: int, guard: Guard | None, again: Callable[[], BinaryIO]
    ) -> None:
        self._file, self._again, self._guard = file, again, guard
        self._stamp = stamp(file)
        self._at = self._known = 0
        self._sha256 = hashlib.sha256()
        # What Cloud Storage computes as well: it finds accidents, and nobody's safety rests on it.
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size_bytes = size_bytes
        self.with_md5 = True

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes of at most the announced size; nothing at its end."""
        left = self.size_bytes - self._at
        block = self._file.read(left if size < 0 else min(size, left))
        fresh = block[max(self._known - self._at, 0) :] if self._known > self._at else block
        self._at += len(block)
        if fresh:
            if self._guard is not None:
                self._guard.look(fresh)
            self._sha256.update(fresh)
            if self.with_md5:
                self._md5.update(fresh)
            self._known += len(fresh)
        return block

    def seek(self, at: int, /) -> None:
        """Go on at a place that was read before.

        Raises: Unanswered when it cannot be read twice the same; OSError.
        """
        if at == self._at:
            return
        if at > self._known:
            raise Unanswered(f"upload: the store has {at} bytes, {self._known} were read")
        self._file.close()
        self._file, self._at = self._again(), 0
        if self._stamp is not None:
            self._file.seek(at)
            self._at = at
        while self._at < at and (block := self._file.read(min(BLOCK_BYTES, at - self._at))):
            self._at += len(block)

    @property
    def complete(self) -> bool:
        """Say whether all of it was read."""
        return self._known == self.size_bytes

    @property
    def sha256(self) -> str:
        """Return the digest of what was read."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """Return the MD5 of what was read."""
        return self._md5.hexdigest()

    def check_steady(self) -> None:
        """Raise Changed when the file was written to since it was opened first."""
        if self._stamp is not None and stamp(self._file) != self._stamp:
            raise Changed

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def stamp(file: BinaryIO) -> tuple[int, int] | None:
    """Return size and moment of the last change of a file on disk; None: it is a stream.

    Neither is proof: a program may set the moment back. It finds programs that still write.
    """
    try:
        found = os.fstat(file.fileno())
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        return None
    return found.st_size, found.st_mtime_ns
