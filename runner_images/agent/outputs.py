"""Bring a run's outputs to the blob store, or say of each why it stays behind."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire import Output, UploadAsk, UploadGrant
from runner_images.agent.clock import elapsed_s
from runner_images.agent.door import Door, TurnedAway, Unanswered, Upload
from runner_images.agent.masking import HIDDEN, Masks
from runner_images.agent.resumable import put_resumable
from runner_images.agent.workload import Found

BLOCK_BYTES = 1 << 20
UPLOAD_TRIES = 8  # with pauses of up to 16 s about a minute: longer outages end the attempt anyway
LONGEST_PAUSE_S = 16.0
NO_TIME = "the machine was taken back before it could be stored"
LIST_LIMIT = 1000  # left-out entries told; a release takes as many assets


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be brought."""

    files: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Spooled:
    file: BinaryIO
    size_bytes: int
    sha256: str


class Collector:
    """Hashes each output while it is copied to a spool file, then uploads exactly that file."""

    def __init__(
        self, door: Door, masks: Masks, limits: Limits, *, spool: Path, over: threading.Event
    ) -> None:
        self._door = door
        self._masks = masks
        self._limits = limits
        self._spool = spool
        self._over = over
        self._until_s = math.inf
        self._files = 0
        self._bytes = 0
        self._results: list[Output] = []
        self._untold = 0
        self._past_server = False  # then the server cannot hash: it wants a second digest

    def hurry(self, until_s: float) -> None:
        """Leave out what is not stored by that moment of `elapsed_s`: the machine goes away."""
        self._until_s = until_s

    def _left_s(self) -> float:
        return self._until_s - elapsed_s()

    def collect(self, outputs: Iterable[Found]) -> tuple[Output, ...]:
        """Upload all of them and return the whole list, with reasons for what was left out."""
        for found in outputs:
            if self._over.is_set():
                break
            if self._left_s() <= 0:  # also what is only passed by has to be read
                self._results.append(Output(path="…", size_bytes=0, sha256="", left_out=NO_TIME))
                break
            self._note(self._bring(found))
        if self._untold:
            text = f"and {self._untold} more were left out"
            self._results.append(Output(path="…", size_bytes=0, sha256="", left_out=text))
        return tuple(self._results)

    def _note(self, output: Output) -> None:
        if output.left_out is not None and len(self._results) >= LIST_LIMIT + self._files:
            self._untold += 1
            return
        self._results.append(output)

    def _bring(self, found: Found) -> Output:
        reason = found.left_out or self._refusal(found)
        if reason is not None or found.content is None:
            return self._left_out(found, reason or "cannot be read")
        try:
            with self._spooled(found.content, self._limits.total_bytes - self._bytes) as spooled:
                return self._stored(found, spooled)
        except _LeftOut as refusal:
            return self._left_out(found, str(refusal))
        except OSError as error:
            return self._left_out(found, f"cannot be read: {error}")

    def _refusal(self, found: Found) -> str | None:
        try:
            name = found.path.encode()
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        if any(byte < 32 or byte == 127 for byte in name):  # noqa: PLR2004 - ASCII's control characters
            return "its name has control characters"
        if self._masks.hide(found.path) != found.path:
            return "its name holds a secret"
        if self._files >= self._limits.files:
            return f"more than {self._limits.files} files"
        if self._bytes + found.size_bytes > self._limits.total_bytes:
            return f"outputs larger than {self._limits.total_bytes} bytes together"
        return None

    @contextlib.contextmanager
    def _spooled(self, content: BinaryIO, room: int) -> Iterator[_Spooled]:
        path = self._spool / "output"
        with path.open("w+b") as file:
            os.unlink(path)
            digest, size, tail = hashlib.sha256(), 0, b""
            while block := content.read(BLOCK_BYTES):
                if self._masks.in_bytes(tail + block):
                    raise _LeftOut("it holds the value of a secret")
                overlap = self._masks.overlap_bytes
                tail = (tail + block)[-overlap:] if overlap else b""
                digest.update(block)
                size += len(block)
                if self._left_s() <= 0:
                    raise _LeftOut(NO_TIME)
                if size > room:
                    raise _LeftOut("it grew beyond the limit while it was read")
                file.write(block)
            file.flush()
            yield _Spooled(file=file, size_bytes=size, sha256=digest.hexdigest())

    def _stored(self, found: Found, spooled: _Spooled) -> Output:
        ask = UploadAsk(path=found.path, size_bytes=spooled.size_bytes, sha256=spooled.sha256)
        self._upload(ask, spooled.file)
        self._files += 1
        self._bytes += spooled.size_bytes
        return Output(path=ask.path, size_bytes=ask.size_bytes, sha256=ask.sha256)

    def _upload(self, ask: UploadAsk, file: BinaryIO) -> None:
        """Ask for a place and put the file there, until the server says that it is stored."""
        pause_s = 0.25
        fault = ""
        for _ in range(UPLOAD_TRIES):
            try:
                if self._bring_once(ask, file):
                    return
                fault = "what was stored is not what was sent"
            except (Unanswered, UserError) as error:
                fault = str(error)
            except TurnedAway as refusal:
                raise _LeftOut(f"the server refused it: {refusal}") from refusal
            if self._over.wait(min(pause_s, max(0.0, self._left_s()))):
                break
            if self._left_s() <= 0:
                raise _LeftOut(NO_TIME)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise _LeftOut(f"upload failed: {fault}")

    def _bring_once(self, ask: UploadAsk, file: BinaryIO) -> bool:
        """Put the file where the server says; return whether it counts as stored."""
        if self._past_server:
            ask = replace(ask, md5=_md5_of(file))
        grant = self._granted(ask)
        if grant.url is None:
            return True
        file.seek(0)
        if not grant.confirm:
            self._door.put(grant.url, file, self._sending(ask.size_bytes, grant.headers))
            return True
        self._past_server = True
        self._put_past_server(grant.url, grant, file, ask.size_bytes)
        return self._granted(replace(ask, md5=ask.md5 or _md5_of(file))).url is None

    def _sending(self, size_bytes: int, headers: Mapping[str, str]) -> Upload:
        return Upload(size_bytes=size_bytes, headers=headers, left_s=self._left_s)

    def _granted(self, ask: UploadAsk) -> UploadGrant:
        return decode(UploadGrant, self._door.post("agent/v1/uploads", encode(ask)), "upload")

    def _put_past_server(
        self, url: str, grant: UploadGrant, file: BinaryIO, size_bytes: int
    ) -> None:
        if grant.resumable:
            put_resumable(url, file, self._sending(size_bytes, {}), self._over)
            return
        try:
            self._door.put(url, file, self._sending(size_bytes, grant.headers))
        except TurnedAway as refusal:
            # Not our server's word: the address is over, or another upload was faster. Ask it.
            raise Unanswered(f"upload: the storage answered {refusal.status}") from refusal

    def _left_out(self, found: Found, reason: str) -> Output:
        shown = found.path.encode("utf-8", "replace").decode()
        shown = self._masks.hide(shown)
        return Output(
            path="".join(c if c.isprintable() else "?" for c in shown) or HIDDEN,
            size_bytes=found.size_bytes,
            sha256="",
            left_out=self._masks.hide(reason),
        )


def _md5_of(file: BinaryIO) -> str:
    # What Cloud Storage computes as well: it finds accidents, and nobody's safety rests on it.
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


class _LeftOut(Exception):  # noqa: N818 - reads as what happened
    """This output stays behind; the text says why."""
