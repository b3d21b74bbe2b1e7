"""Read one blob from a registry: checked against its digest, continued after a cut."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Protocol

from action.registry import faults
from action.registry.connections import Answer, NoAnswer, Request
from action.registry.door import Door, Patience, Wish
from action.registry.faults import Asked, Fault

_OK, _PARTIAL = 200, 206


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class BlobReader(io.RawIOBase):
    """A blob as a file.

    Read from its start, its last byte is given only when all of it has the digest.
    Raises (from `read`): RegistryRefused, RegistryAway.
    """

    def __init__(
        self, door: Door, asked: Asked, wish: Callable[[int], Wish], *, digest: str, offset: int
    ) -> None:
        super().__init__()
        self._door, self._asked, self._wish, self._digest = door, asked, wish, digest
        self._place = offset
        self._hash: _Hash | None = hashlib.new(digest.partition(":")[0]) if not offset else None
        self._patience = Patience(door.wait)
        self._answer: Answer | None = None
        self._end: int | None = None  # known from the first answer

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that reading can begin anywhere; what is read then is unchecked."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the start or from here."""
        place = offset + (self._place if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or place < 0:
            raise io.UnsupportedOperation("a blob is read from a place counted from its start")
        if place != self._place:
            self._hang_up()
            self._place, self._hash = place, None
        return place

    def readinto(self, target: memoryview, /) -> int:  # type: ignore[override]
        """Fill `target` as far as the blob goes; 0 at its end."""
        while True:
            if self._end is not None and self._place >= self._end:
                return 0
            answer = self._answer or self._open()
            try:
                piece = answer.read(len(target))
            except NoAnswer as error:
                self._lose(faults.no_answer(self._asked, error.reason))
                continue
            if not piece and self._end is not None and self._place < self._end:
                self._lose(faults.no_answer(self._asked, "it ended too early"))
                continue
            target[: len(piece)] = piece
            self._take(piece)
            return len(piece)

    def _open(self) -> Answer:
        while True:
            found = self._door.try_once(self._wish(self._place))
            if isinstance(found, Fault):
                self._patience.lose(found)
                continue
            if self._place and found.status != _PARTIAL and not self._skip(found):
                continue
            length = found.headers.get("Content-Length", "")
            if self._end is None and length.isdigit():
                skipped = self._place if found.status == _OK else 0
                self._end = int(length) + (self._place - skipped)
            self._answer = found
            return found

    def _skip(self, answer: Answer) -> bool:
        """Pass over what is there already: the server does not know of ranges."""
        left = self._place
        while left:
            try:
                piece = answer.read(min(left, 1 << 20))
            except NoAnswer as error:
                answer.close()
                self._patience.lose(faults.no_answer(self._asked, error.reason))
                return False
            if not piece:
                return True
            left -= len(piece)
        return True

    def _take(self, piece: bytes) -> None:
        self._place += len(piece)
        if piece:
            self._patience.renew()
        if self._hash is None:
            return
        self._hash.update(piece)
        ended = not piece if self._end is None else self._place >= self._end
        if ended:
            found = f"{self._digest.partition(':')[0]}:{self._hash.hexdigest()}"
            self._hash = None
            if found != self._digest:
                raise faults.broken(self._asked, f"other content ({found})").error

    def _lose(self, fault: Fault) -> None:
        self._hang_up()
        self._patience.lose(fault)

    def _hang_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def close(self) -> None:
        """End the connection. Safe to repeat."""
        self._hang_up()
        super().close()


def blob_request(url: str, offset: int) -> Request:
    """Return the request for a blob from an offset in bytes (RFC 9110 section 14.2)."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return Request(method="GET", url=url, headers=headers)


EXPECTED = frozenset({_OK, _PARTIAL})
