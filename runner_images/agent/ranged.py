"""Bring one file over HTTP; after a cut go on with the byte that is missing."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from runner_images.agent.door import TRY_AGAIN, TurnedAway, Unanswered
from runner_images.agent.public_http import Opened

BLOCK_BYTES = 1 << 20
TRIES = 6  # in a row without a byte; with pauses of up to 16 s half a minute
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 16.0
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES})
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)  # longer ones are nobody's
OK, PARTIAL, BEYOND = 200, 206, 416  # RFC 9110, 15.3.1, 15.3.7, 15.5.17


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How bytes come, who hears of them, and who may stop them."""

    open: Callable[[Mapping[str, str]], AbstractContextManager[Opened]]
    told: Callable[[int], None]  # bytes that came; may raise to stop
    sized: Callable[[int], None]  # the whole size, once it is known; may raise too
    pause: Callable[[float], bool]  # True: stopped


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a whole file hashes to."""

    size_bytes: int
    sha256: str
    md5: str


def bring(to: Path, ways: Ways, size_bytes: int | None = None) -> Brought:
    """Have all bytes at `to`; what lies there already is gone on with.

    Raises: Unanswered when nothing comes any more; TurnedAway with the server's status.
    """
    part = _Part(to)
    if size_bytes is not None and part.size > size_bytes:
        part.restart()
    failures, pause_s = 0, FIRST_PAUSE_S
    while True:
        before = part.size
        try:
            if _more(part, ways, size_bytes):
                return part.brought()
            fault = Unanswered("the connection ended early")
        except (Unanswered, OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            fault = Unanswered(f"{type(error).__name__}: {error}")
        failures = 0 if part.size > before else failures + 1
        pause_s = FIRST_PAUSE_S if part.size > before else min(pause_s * 2, LONGEST_PAUSE_S)
        if failures >= TRIES or ways.pause(pause_s):
            raise fault


class _Part:
    """The bytes that are there, hashed as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tag: str | None = None  # of the object that they are of
        self.restart()
        if path.exists():
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    self._take(block)

    def restart(self) -> None:
        """Forget all of it."""
        self.size = 0
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def _take(self, block: bytes) -> None:
        self.size += len(block)
        self._sha256.update(block)
        self._md5.update(block)

    def write(self, opened: Opened, told: Callable[[int], None], most: int | None) -> None:
        """Append the answer's body, and of what is beyond `most` a block."""
        with self._path.open("r+b" if self._path.exists() else "w+b", buffering=0) as file:
            file.truncate(self.size)
            file.seek(self.size)
            while (most is None or self.size <= most) and (block := opened.body.read(BLOCK_BYTES)):
                file.write(block)
                self._take(block)
                told(len(block))

    def brought(self) -> Brought:
        """Return what it hashes to."""
        if not self._path.exists():
            self._path.touch()
        return Brought(
            size_bytes=self.size, sha256=self._sha256.hexdigest(), md5=self._md5.hexdigest()
        )


def _more(part: _Part, ways: Ways, size_bytes: int | None) -> bool:
    """Ask once for what is missing; return whether all is there."""
    if size_bytes is not None and part.size == size_bytes:
        return True
    headers = {"accept-encoding": "identity"}
    if part.size:
        headers["range"] = f"bytes={part.size}-"
        if part.tag is not None:
            headers["if-range"] = part.tag  # RFC 9110, 13.1.5: another object comes from its start
    with ways.open(headers) as opened:
        if opened.status == BEYOND and part.size:
            part.restart()
            return False
        if opened.status not in {OK, PARTIAL}:
            raise _no(opened.status)
        if opened.status == PARTIAL and not _continues(opened, part.size):
            raise Unanswered("the host answered with another part than was asked for")
        if opened.status == OK:
            ways.told(-part.size)
            part.restart()
        tag = opened.headers.get("etag", "")
        part.tag = tag if tag and not tag.startswith("W/") else None
        whole = _whole(opened, part.size)
        if whole is not None:
            ways.sized(whole)
        part.write(opened, ways.told, size_bytes)
        if size_bytes is not None and part.size > size_bytes:
            # Asking again would bring all of it again, and so on for ever.
            raise TurnedAway(opened.status, f"the host sends more than the {size_bytes} bytes told")
    wanted = whole if size_bytes is None else size_bytes
    return wanted is None or part.size == wanted


def _continues(opened: Opened, size: int) -> bool:
    return opened.headers.get("content-range", "").startswith(f"bytes {size}-")


def _whole(opened: Opened, before: int) -> int | None:
    length = opened.headers.get("content-length", "")
    return before + int(length) if _LENGTH.fullmatch(length) else None


def _no(status: int) -> TurnedAway | Unanswered:
    text = f"the host answered {status}"
    if status >= 500 or status in TRY_AGAIN:  # noqa: PLR2004 - RFC 9110, 15.6
        return Unanswered(text)
    return TurnedAway(status, text)
