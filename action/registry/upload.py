"""Send one blob to a registry: whole, or in pieces that continue after a cut.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from action.failures import BuildFailed
from action.registry import faults
from action.registry.challenge import scope
from action.registry.connections import COMMIT_S, PIECE_BYTES, Answer, Body, Request, body_of
from action.registry.door import Door, Page, Patience, Wish
from action.registry.faults import Fault

Told = Callable[[int], None]  # bytes of the blob that are sent; it falls when a piece is sent again

_CREATED, _ACCEPTED = 201, 202
# The registry has not this session (any more), or it stands elsewhere: begin anew.
_SESSION_LOST = frozenset({404, 416})
# Not a way of this registry: some take no pieces at all.
_NO_PIECES = frozenset({400, 405, 411, 413, 415, 501})
_MOST_SESSIONS = 3  # two that were lost may be chance
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Content by its digest; `open` gives it from its start, as often as it is called."""

    digest: str
    size_bytes: int
    open: Callable[[], BinaryIO]


class Upload:
    """One blob on its way into one repository."""

    def __init__(self, door: Door, repository: str, blob: Blob, told: Told) -> None:
        self._door, self._repository, self._blob, self._told = door, repository, blob, told
        self._scopes = (scope(repository, "pull", "push"),)
        self._asked = door.asked(repository, f"take the blob {blob.digest}")
        self._patience = Patience(door.wait)

    def send(self, session: str | None = None) -> None:
        """Send the blob; `session` is an upload that stands open (a mount's 202).

        Raises: RegistryRefused, RegistryAway; BuildFailed when the content changed meanwhile.
        """
        chunk = self._door.kind.chunk_bytes
        whole = chunk is None or self._blob.size_bytes <= chunk
        lost = 0
        while True:
            url, smallest = (session, 0) if session else self._begin()
            session = None
            try:
                if whole or chunk is None:
                    fault = self._whole(url)
                else:
                    fault = self._in_pieces(url, max(chunk, smallest))
            except BaseException:  # another blob failed, a file changed, patience ended
                self._cancel(url)
                raise
            if fault is None:
                return
            self._cancel(url)
            if not whole and fault.status in _NO_PIECES:
                whole = True
                continue
            lost += fault.status in _SESSION_LOST
            if fault.status not in _SESSION_LOST or lost >= _MOST_SESSIONS:
                self._patience.lose(fault)

    def _begin(self) -> tuple[str, int]:
        """Open a session; return its address, and the smallest piece that the registry takes."""
        url = f"{self._door.url}/v2/{quote(self._repository)}/blobs/uploads/"
        page = self._door.ask(self._wish("POST", url, body_of(b""), _ACCEPTED))
        smallest = page.headers.get("OCI-Chunk-Min-Length", "")
        return self._next(page), int(smallest) if re.fullmatch(r"\d{1,12}", smallest) else 0

    def _whole(self, url: str) -> Fault | None:
        body = Body(
            size_bytes=self._blob.size_bytes, pieces=lambda: self._pieces(0, self._blob.size_bytes)
        )
        return self._put(url, body)

    def _put(self, url: str, body: Body) -> Fault | None:
        mark = "&" if urlsplit(url).query else "?"
        wish = self._wish("PUT", f"{url}{mark}digest={quote(self._blob.digest)}", body, _CREATED)
        found = self._door.try_once(wish)
        if isinstance(found, Fault):
            return found
        with found:
            stored = found.headers.get("Docker-Content-Digest", self._blob.digest)
        if stored != self._blob.digest:
            return faults.broken(self._asked, f"it stored {stored} instead")
        self._told(self._blob.size_bytes)
        return None

    # ── in pieces ───────────────────────────────────────────────────────────────────────────────

    def _in_pieces(self, url: str, chunk: int) -> Fault | None:
        """Send piece by piece; after a cut ask how far the registry got, and go on there."""
        done = 0
        while done < self._blob.size_bytes:
            size = min(chunk, self._blob.size_bytes - done)
            found = self._patch(url, done, size)
            if isinstance(found, Fault):
                if not found.passes:
                    return found
                self._patience.lose(found)
                found = self._status(url)
                if isinstance(found, Fault):
                    return found
            asked_how_far = found.status != _ACCEPTED
            with found:
                url, before, done = self._next(found), done, _offset(found, done + size)
            if not (before < done <= before + size) and not asked_how_far:
                return self._stuck(done)
            if done > before:
                self._patience.renew()
            self._told(done)
        return self._put(url, body_of(b""))

    def _patch(self, url: str, start: int, size: int) -> Answer | Fault:
        body = Body(size_bytes=size, pieces=lambda: self._pieces(start, size))
        headers = {"Content-Range": f"{start}-{start + size - 1}"}
        return self._door.try_once(self._wish("PATCH", url, body, _ACCEPTED, headers))

    def _stuck(self, done: int) -> Fault:
        """Return the fault of a registry that took a piece and tells of another end of it."""
        fault = faults.broken(self._asked, f"it says it has {done} bytes, which cannot be")
        return replace(fault, status=501)  # as if it took no pieces: all at once it may do

    def _status(self, url: str) -> Answer | Fault:
        return self._door.try_once(self._wish("GET", url, None, 204))

    def _cancel(self, url: str) -> None:
        """Let go of a session, so that the registry need not keep half a blob for days."""
        with suppress(BuildFailed):
            found = self._door.try_once(self._wish("DELETE", url, None, 204))
            if isinstance(found, Answer):
                found.close()

    # ── parts ───────────────────────────────────────────────────────────────────────────────────

    def _pieces(self, start: int, size: int) -> Iterator[bytes]:
        with self._blob.open() as content:
            _skip(content, start)
            left = size
            while left:
                piece = self._read(content, min(PIECE_BYTES, left))
                if not piece:
                    raise BuildFailed(
                        f"the blob {self._blob.digest}: should have {self._blob.size_bytes} bytes, "
                        f"found {start + size - left}. A file changed meanwhile: run it again."
                    )
                yield piece
                left -= len(piece)
                self._told(start + size - left)

    def _read(self, content: BinaryIO, size: int) -> bytes:
        try:
            return content.read(size)
        except OSError as error:  # of the disk: it must not pass for one of the network
            raise BuildFailed(
                f"the blob {self._blob.digest}: should be readable, found {error.strerror}. Look "
                f"for a full or broken disk."
            ) from error

    def _next(self, answer: Answer | Page) -> str:
        """Return where to go on: each answer may name another place, with state in its query."""
        location = answer.headers.get("Location")
        return self._door.resolve(answer.url, location, self._asked) if location else answer.url

    def _wish(
        self,
        method: str,
        url: str,
        body: Body | None,
        expected: int,
        headers: dict[str, str] | None = None,
    ) -> Wish:
        kind = {"Content-Type": "application/octet-stream"} if body is not None else {}
        request = Request(
            method=method,
            url=url,
            headers=kind | (headers or {}),
            body=body,
            answer_s=COMMIT_S if method == "PUT" else COMMIT_S / 10,
        )
        return Wish(request=request, scopes=self._scopes, asked=self._asked, expected={expected})


def _offset(answer: Answer, hoped: int) -> int:
    """Return how many bytes the registry has: its Range, whose end is the last byte's number.

    `0-0` is what Distribution says for both no byte and one: no piece is that small.
    """
    found = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
    if found is None:
        return hoped
    last = int(found[1])
    return last + 1 if last else 0


def _skip(content: BinaryIO, start: int) -> None:
    if content.seekable():
        content.seek(start)
        return
    while start > 0 and (piece := content.read(min(PIECE_BYTES, start))):
        start -= len(piece)
