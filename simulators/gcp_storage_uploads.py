"""Uploads through the JSON interface: media, multipart, and the start of resumable ones.

https://cloud.google.com/storage/docs/uploads-downloads
"""

from __future__ import annotations

import json
from typing import Any

from simulators.gcp_bodies import check
from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, Related, announced, write
from simulators.gcp_storage_intake import Broken, Intake, Wish, arriving
from simulators.gcp_storage_objects import shown
from simulators.gcp_storage_refusals import bad, required
from simulators.gcp_storage_rules import Preconditions
from simulators.gcp_storage_sessions import Sessions


class Uploads:
    """The method `objects.insert`, in its three forms."""

    def __init__(self, intake: Intake, sessions: Sessions) -> None:
        self._intake = intake
        self._sessions = sessions
        self._world = intake.world

    def insert(self, request: Request) -> Answer:
        """Take an object in, or begin to."""
        try:
            match request.params.get("uploadType"):
                case "media":
                    return self._media(request)
                case "multipart":
                    return self._multipart(request)
                case "resumable":
                    return self._start(request)
                case found:
                    raise bad(f"Invalid upload type: {found!r}.")
        except Broken:
            return Answer(lost=True)

    def _media(self, request: Request) -> Answer:
        name = request.params.get("name")
        if name is None:
            raise required("name")
        wish = self._wish(request, {"contentType": request.headers.get("content-type")}, name)
        self._intake.check(wish)
        body = arriving(self._intake.shelf, request, wish.bucket, wish.name)
        digest, file = Digest(), self._intake.shelf.new_file()
        self._written(file, digest, body.chunks())
        return self._settled(request, wish, file, digest)

    def _multipart(self, request: Request) -> Answer:
        # The name stands in the first part or the query; a fault is matched before it is read.
        bucket = request.args["bucket"]
        body = arriving(self._intake.shelf, request, bucket, request.params.get("name", ""))
        parts = Related(body, request.headers.get("content-type", ""))
        metadata = _object(parts.metadata)
        request.note = metadata
        if parts.media_type and "contentType" not in metadata:
            metadata = {**metadata, "contentType": parts.media_type}
        wish = self._wish(request, metadata, metadata.get("name"))
        self._intake.check(wish)
        digest, file = Digest(), self._intake.shelf.new_file()
        self._written(file, digest, parts.media())
        return self._settled(request, wish, file, digest)

    def _written(self, file: str, digest: Digest, chunks: Any) -> None:
        path = self._intake.shelf.path(file)
        try:
            write(path, digest.counting(chunks))
        except BaseException:
            path.unlink(missing_ok=True)  # half an upload leaves nothing
            raise

    def _settled(self, request: Request, wish: Wish, file: str, digest: Digest) -> Answer:
        hashes = announced(request.headers.get("x-goog-hash"))
        doc = self._intake.settle(wish, file, digest, hashes)
        return Answer(json=shown(self._world, doc))

    def _start(self, request: Request) -> Answer:
        metadata = dict(request.json())
        upload_type = request.headers.get("x-upload-content-type")
        if upload_type and "contentType" not in metadata:
            metadata["contentType"] = upload_type
        wish = self._wish(request, metadata, metadata.get("name"))
        self._intake.check(wish)
        length = request.headers.get("x-upload-content-length")
        total = int(length) if length and length.isdigit() else None
        session = self._sessions.open(wish, total=total, xml=False)
        place = f"/upload/storage/v1/b/{wish.bucket}/o"
        return Answer(
            data=b"",
            headers={
                "Location": f"http://{request.headers['host']}{place}"
                f"?uploadType=resumable&upload_id={session}",
                "X-GUploader-UploadID": session,
            },
        )

    def _wish(self, request: Request, metadata: Doc, name: Any) -> Wish:
        check(metadata, "Object", "storage")
        params = request.params
        name = params.get("name", name)
        if not isinstance(name, str):
            raise required("name")
        names = ("predefinedAcl", "kmsKeyName", "contentEncoding")
        extra: Doc = {k: params[k] for k in names if k in params}
        return Wish(
            bucket=request.args["bucket"],
            name=name,
            resource={**metadata, **extra},
            conditions=Preconditions.read(params),
        )

    def continue_(self, request: Request) -> Answer:
        """Take more of a resumable upload in, or say how much there is: PUT to a session."""
        answer = self._sessions.put(request)
        if isinstance(answer, Answer):
            return answer
        return Answer(json=shown(self._world, answer))

    def routes(self) -> list[Route]:
        """Return the routes; none holds the world's lock while bytes come in."""
        place, verb = "/upload/storage/v1/b/{bucket}/o", "storage.objects.insert"
        table = [("POST", self.insert), ("PUT", self.continue_), ("DELETE", self._sessions.cancel)]
        return [
            Route(method=m, pattern=place, handler=h, verb=verb, locked=False) for m, h in table
        ]


def _object(text: bytes) -> Doc:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise bad("Metadata part is not a JSON object.", reason="parseError")
    return value
