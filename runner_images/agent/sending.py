"""Bring one output to the blob store, hashed on its way, and ask until it is proven there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire import UploadAsk, UploadGrant
from runner_images.agent.door import Door, TurnedAway, Unanswered, Upload
from runner_images.agent.measuring import Changed, LeftOut, Measured
from runner_images.agent.resumable import put_resumable

UPLOAD_TRIES = 8  # with pauses of up to 16 s about a minute: longer outages end the attempt anyway
LONGEST_PAUSE_S = 16.0
NO_TIME = "the machine was taken back before it could be stored"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What lies in the blob store now."""

    size_bytes: int
    sha256: str


class Sender:
    """Stores one output after the other; each thread has its own."""

    def __init__(
        self, door: Door, left_s: Callable[[], float], over: threading.Event, *, past_server: bool
    ) -> None:
        self._door, self._left_s, self._over = door, left_s, over
        self.past_server = past_server  # then the server cannot hash: it wants a second digest

    def send_blocks(self, path: str, blocks: Sequence[bytes]) -> Stored:
        """Store what is in memory; its digests are told before. Raises: LeftOut."""
        digest, size_bytes = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            size_bytes += len(block)
        ask = UploadAsk(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())
        self._often(lambda: self._put_blocks(ask, blocks))
        return Stored(size_bytes=size_bytes, sha256=ask.sha256)

    def send_file(self, path: str, opened: Callable[[], Measured]) -> Stored:
        """Store a file that is read as it is sent; `opened` begins a new reading of it.

        Raises: LeftOut, also when the file changes each time it is read; OSError.
        """
        found: list[Measured] = []

        def bring() -> bool:
            measured = opened()
            found[:] = [measured]
            with contextlib.closing(measured):
                return self._put_file(path, measured)

        try:
            self._often(bring)
        except Changed:
            try:
                self._often(bring)
            except Changed:
                raise LeftOut("it changed each time it was read") from None
        return Stored(size_bytes=found[0].size_bytes, sha256=found[0].sha256)

    # ── one try ──────────────────────────────────────────────────────────────────────────────

    def _put_blocks(self, ask: UploadAsk, blocks: Sequence[bytes]) -> bool:
        if self.past_server:
            ask = replace(ask, md5=_md5_of(blocks))
        grant = self._granted(ask)
        if grant.url is None:
            return True
        content = cast("BinaryIO", Blocks(blocks))
        if not grant.confirm:
            self._door.put(grant.url, content, self._sending(ask.size_bytes, grant))
            return True
        self.past_server = True
        self._put_past_server(grant.url, grant, content, ask.size_bytes)
        return self._is_stored(replace(ask, md5=ask.md5 or _md5_of(blocks)))

    def _put_file(self, path: str, measured: Measured) -> bool:
        ask = UploadAsk(path=path, size_bytes=measured.size_bytes, sha256="")
        grant = self._granted(ask)
        if grant.url is None:
            return True
        # Relative addresses and those of our server are hashed there: SHA-256 is enough.
        direct = grant.resumable or bool(grant.headers)
        measured.with_md5 = direct
        content = cast("BinaryIO", measured)
        try:
            if direct:
                self._put_past_server(grant.url, grant, content, ask.size_bytes)
            else:
                self._door.put(grant.url, content, self._sending(ask.size_bytes, grant))
        except Unanswered:
            if not measured.complete:  # else the answer may be what was lost
                raise
        measured.check_steady()
        md5 = measured.md5 if direct else None
        return self._is_stored(replace(ask, sha256=measured.sha256, md5=md5))

    def _put_past_server(
        self, url: str, grant: UploadGrant, content: BinaryIO, size_bytes: int
    ) -> None:
        if grant.resumable:
            put_resumable(url, content, self._sending(size_bytes, None), self._over)
            return
        try:
            self._door.put(url, content, self._sending(size_bytes, grant))
        except TurnedAway as refusal:
            # Not our server's word: the address is over, or another upload was faster. Ask it.
            raise Unanswered(f"upload: the storage answered {refusal.status}") from refusal

    def _is_stored(self, ask: UploadAsk) -> bool:
        return self._granted(ask).url is None

    def _granted(self, ask: UploadAsk) -> UploadGrant:
        return decode(UploadGrant, self._door.post("agent/v1/uploads", encode(ask)), "upload")

    def _sending(self, size_bytes: int, grant: UploadGrant | None) -> Upload:
        headers = grant.headers if grant is not None else {}
        return Upload(size_bytes=size_bytes, headers=headers, left_s=self._left_s)

    # ── again and again ──────────────────────────────────────────────────────────────────────

    def _often(self, bring: Callable[[], bool]) -> None:
        """Try until it is stored. Raises: LeftOut, and what `bring` raises for good."""
        pause_s, fault = 0.25, ""
        for _ in range(UPLOAD_TRIES):
            if self._left_s() <= 0:
                raise LeftOut(NO_TIME)
            try:
                if bring():
                    return
                fault = "what was stored is not what was sent"
            except (Unanswered, UserError) as error:
                fault = str(error)
            except TurnedAway as refusal:
                raise LeftOut(f"the server refused it: {refusal}") from refusal
            if self._over.wait(min(pause_s, max(0.0, self._left_s()))):
                break
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise LeftOut(NO_TIME if self._left_s() <= 0 else f"upload failed: {fault}")


class Blocks(io.RawIOBase):
    """Blocks in memory as one file, without joining them."""

    def __init__(self, blocks: Sequence[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._number = self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, fewer at the end of a block; nothing at the end."""
        while self._number < len(self._blocks):
            block = self._blocks[self._number]
            taken = block[self._at :] if size < 0 else block[self._at : self._at + size]
            self._at += len(taken)
            if taken:
                return taken
            self._number, self._at = self._number + 1, 0
        return b""

    def seek(self, at: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the beginning."""
        del whence
        self._number, self._at = 0, at
        while self._number < len(self._blocks) and self._at >= len(self._blocks[self._number]):
            self._at -= len(self._blocks[self._number])
            self._number += 1
        return at


def _md5_of(blocks: Sequence[bytes]) -> str:
    # What Cloud Storage computes as well: it finds accidents, and nobody's safety rests on it.
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
