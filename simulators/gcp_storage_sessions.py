"""Resumable uploads, of the JSON and the XML interface alike.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulators.gcp_http import Answer, Request
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, announced, write
from simulators.gcp_storage_intake import Broken, Intake, Wish, arriving
from simulators.gcp_storage_refusals import StorageError, Xml, bad
from simulators.gcp_storage_rules import Preconditions

STEP = 256 << 10  # what is kept of an unfinished upload is a multiple of this
LIFE_S = 7 * 86400  # a session lives a week


@dataclass(frozen=True, kw_only=True)
class ContentRange:
    """What a `Content-Range` header says: which bytes follow, and of how many in all."""

    start: int | None  # None: no bytes follow, the client asks how much is there
    end: int
    total: int | None

    @classmethod
    def read(cls, header: str | None, length: int) -> ContentRange:
        """Read the header; without one the whole object follows."""
        if header is None:
            return cls(start=0, end=length - 1, total=length)
        found = re.fullmatch(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)", header.strip())
        if not found:
            raise bad(f"Failed to parse Content-Range header: {header}", reason="badRequest")
        start, end, total = found.groups()
        size = None if total == "*" else int(total)
        if start is None:
            return cls(start=None, end=-1, total=size)
        if int(end) < int(start) or (size is not None and int(end) >= size):
            raise bad(f"Failed to parse Content-Range header: {header}", reason="badRequest")
        return cls(start=int(start), end=int(end), total=size)


class Sessions:
    """Uploads that may pause, on disk; they outlive the program."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._shelf = intake.shelf
        self._world = intake.world

    def open(self, wish: Wish, *, total: int | None, xml: bool) -> str:
        """Begin an upload and return its id, which is all it takes to go on with it."""
        id_ = secrets.token_urlsafe(72)  # as long as Google's, and a secret as theirs
        session: Doc = {
            "bucket": wish.bucket,
            "name": wish.name,
            "wish": dict(wish.resource),
            "conditions": dict(wish.conditions.wanted),
            "sizes": wish.sizes,
            "total": total,
            "xml": xml,
            "received": 0,
            "turn": 0,
            "state": "open",
            "file": self._shelf.new_file(),
            "until": self._world.now() + LIFE_S,
        }
        with self._world.lock:
            write(self._shelf.path(session["file"]), [])
            self._world.store.put("upload-session", id_, session)
        return id_

    def put(self, request: Request) -> Answer | Doc:
        """Take bytes in; returns the finished version, or 308 with how much there is."""
        id_, session = self._session(request)
        if session["state"] == "done":
            return self._shelf.find(session["bucket"], session["name"], int(session["generation"]))
        body = arriving(self._shelf, request, session["bucket"], session["name"])
        span = ContentRange.read(request.headers.get("content-range"), body.expected)
        total = _total(session, span)
        if span.start is not None:
            try:
                self._take(id_, session, span, body.chunks())
            except Broken:
                return Answer(lost=True)
        if total is None or session["received"] < total:
            return _so_far(session["received"])
        return self._finish(id_, session, announced(request.headers.get("x-goog-hash")))

    def _session(self, request: Request) -> tuple[str, Doc]:
        id_ = request.params.get("upload_id", "")
        with self._world.lock:
            session = self._world.store.get("upload-session", id_)
            if session is None:
                raise _gone(404)
            facts = {"bucket": session["bucket"], "object": session["name"]}
            if self._world.faults.take("session_lost", facts):
                session["state"] = "lost"
                self._world.store.put("upload-session", id_, session)
            if session["state"] in {"cancelled", "lost"} or session["until"] <= self._world.now():
                raise _gone(410)
            # A request whose connection hangs loses its turn to the one that comes after it.
            session["turn"] += 1
            self._world.store.put("upload-session", id_, session)
            return id_, dict(session)

    def _take(self, id_: str, session: Doc, span: ContentRange, chunks: Iterable[bytes]) -> None:
        start, received = span.start or 0, session["received"]
        if start > received:
            raise bad(
                "Invalid request.  According to the Content-Range header, the upload offset is "
                f"{start} byte(s), which exceeds already uploaded size of {received} byte(s)."
            )
        final = span.total is not None and span.end + 1 == span.total
        length = span.end + 1 - start
        if not final and length < STEP:
            raise bad(
                "Invalid request.  The number of bytes uploaded is required to be equal or greater "
                f"than {STEP}, except for the final request (it's recommended to be the exact "
                f"multiple of {STEP}).  The received request contained {length} bytes, which does "
                "not meet this requirement."
            )
        whole = False
        path, written = self._shelf.path(session["file"]), _Counter(chunks, length)
        try:
            write(path, written, offset=start)
            whole = written.count == length
        finally:
            end = start + written.count
            # Of what is not the end only whole steps are kept.
            kept = end if whole and final else end // STEP * STEP
            self._keep(id_, session, max(received, kept))

    def _keep(self, id_: str, session: Doc, received: int) -> None:
        with self._world.lock:
            now = self._world.store.get("upload-session", id_)
            if now is None or now["turn"] != session["turn"]:
                raise Broken
            now["received"] = session["received"] = received
            self._world.store.put("upload-session", id_, now)

    def _finish(self, id_: str, session: Doc, hashes: dict[str, str]) -> Doc:
        path = self._shelf.path(session["file"])
        with path.open("r+b") as file:
            file.truncate(session["received"])
        digest = Digest.of_file(path)
        wish = Wish(
            bucket=session["bucket"],
            name=session["name"],
            resource=session["wish"],
            conditions=Preconditions(wanted=session["conditions"]),
            sizes=session["sizes"] and tuple(session["sizes"]),
        )
        with self._world.lock:
            try:
                doc = self._intake.settle(wish, session["file"], digest, hashes)
            except StorageError:
                self._world.store.put("upload-session", id_, {**session, "state": "lost"})
                raise
            generation = doc["resource"]["generation"]
            done = {**session, "state": "done", "generation": generation}
            self._world.store.put("upload-session", id_, done)
        return doc

    def cancel(self, request: Request) -> Answer:
        """Give an upload up: DELETE on its session, answered 499."""
        id_, session = self._session(request)
        with self._world.lock:
            if session["state"] == "open":
                self._shelf.path(session["file"]).unlink(missing_ok=True)
            self._world.store.put("upload-session", id_, {**session, "state": "cancelled"})
        return Answer(status=499, data=b"")


class _Counter:
    """Passes bytes on and counts them, up to as many as were announced."""

    def __init__(self, chunks: Iterable[bytes], most: int) -> None:
        self._chunks = chunks
        self._most = most
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.count += len(chunk)
            if self.count > self._most:
                raise bad("The body is longer than its Content-Range says.", reason="badRequest")
            yield chunk


def _total(session: Doc, span: ContentRange) -> int | None:
    declared: int | None = session["total"]
    if span.total is not None and declared is not None and span.total != declared:
        raise bad(
            f"Invalid request.  The upload was declared to have {declared} bytes, the request "
            f"says {span.total}.",
            reason="badRequest",
        )
    return span.total


def _so_far(received: int) -> Answer:
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    return Answer(status=308, data=b"", headers=headers)


def _gone(code: int) -> StorageError:
    xml = Xml(code="NoSuchUpload", message="The specified upload does not exist.")
    told = "The requested upload session no longer exists." if code == 410 else "Not Found"
    return StorageError(code, told, "gone" if code == 410 else "notFound", xml)
