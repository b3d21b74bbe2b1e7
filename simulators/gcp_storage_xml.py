"""The XML interface of Cloud Storage, which signed URLs use: GET, HEAD, PUT, POST, DELETE.

https://cloud.google.com/storage/docs/xml-api/overview
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from simulators.gcp_http import Answer, GoogleError, Request, Route, no_page
from simulators.gcp_signed_urls import Asked, account_of, is_signed
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import Digest, announced, read, write
from simulators.gcp_storage_intake import Broken, Intake, Wish, arriving
from simulators.gcp_storage_objects import Objects, generation_of, media_headers, xml_etag
from simulators.gcp_storage_parts import Parts
from simulators.gcp_storage_refusals import StorageError, Xml, bad, in_xml
from simulators.gcp_storage_rules import Preconditions
from simulators.gcp_storage_sessions import Sessions

Keys = Callable[[str], Iterable[RSAPublicKey]]
# First segments of other APIs on this origin; no bucket may be met under them.
_NO_BUCKETS = {"_sim", "batch", "compute", "download", "oauth2", "storage", "token", "upload", "v1"}
_META = "x-goog-meta-"
_HEADERS = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
    "x-goog-custom-time": "customTime",
    "x-goog-encryption-kms-key-name": "kmsKeyName",
    "x-goog-storage-class": "storageClass",
    "x-goog-acl": "predefinedAcl",
}


class XmlObjects:
    """Objects by their path: `/BUCKET/OBJECT`."""

    def __init__(self, intake: Intake, objects: Objects, sessions: Sessions, keys: Keys) -> None:
        self._intake = intake
        self._parts = Parts(intake)
        self._shelf = intake.shelf
        self._world = intake.world
        self._objects = objects
        self._sessions = sessions
        self._keys = keys
        self._world.settings |= {"storage_checks_sha256": False}

    def _admitted(self, request: Request) -> None:
        """Refuse a signed request whose signature does not hold; others are the gates' business."""
        if not is_signed(request.query) or "upload_id" in request.params:
            return  # the id of an upload is itself the right to go on with it
        asked = Asked(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
        )
        with self._world.lock:
            now = datetime.fromtimestamp(self._world.now(), UTC)
            account = account_of(asked, now, self._keys)
            facts = {"principal": account, "path": request.path}
            if self._world.faults.take("denied", facts):
                raise StorageError(
                    403,
                    f"{account} does not have access to the Google Cloud Storage object.",
                    "forbidden",
                    Xml(code="AccessDenied", message="Access denied."),
                )

    # reading ------------------------------------------------------------------------------

    def get(self, request: Request) -> Answer:
        """Return an object's bytes; HEAD: its headers."""
        bucket, name = request.args["bucket"], request.args["object"]
        with self._world.lock:
            doc = self._shelf.find(bucket, name, generation_of(request.params))
            Preconditions.from_headers(request.headers).check(doc["resource"])
            if request.method == "HEAD":
                return _head(doc["resource"])
            answer = self._objects.download(doc, request)
        return replace(answer, **_overridden(answer, request))

    # writing ------------------------------------------------------------------------------

    def put(self, request: Request) -> Answer:
        """Take an object in, whole or as the next part of a resumable upload."""
        if "upload_id" in request.params:
            taken = self._sessions.put(request)
            return taken if isinstance(taken, Answer) else _stored(taken["resource"])
        if "uploadId" in request.params:
            return self._parts.put(request)
        if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
            told = "You must provide the Content-Length HTTP header."
            xml = Xml(code="MissingContentLength", message=told)
            raise StorageError(411, told, "required", xml)
        wish = self._wish(request)
        self._intake.check(wish)
        body = arriving(self._shelf, request, wish.bucket, wish.name)
        digest, file = Digest(), self._shelf.new_file()
        path = self._shelf.path(file)
        try:
            write(path, digest.counting(body.chunks()))
        except Broken:
            path.unlink(missing_ok=True)
            return Answer(lost=True)
        self._check_sha256(request, file)
        hashes = announced(request.headers.get("x-goog-hash"))
        if "content-md5" in request.headers:
            hashes["md5"] = request.headers["content-md5"]
        return _stored(self._intake.settle(wish, file, digest, hashes)["resource"])

    def _check_sha256(self, request: Request, file: str) -> None:
        """Hold the bytes against `x-goog-content-sha256` where the switch says so.

        That the real service does is not documented, so nothing may rest on it: off by default.
        """
        claimed = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
        if claimed == "UNSIGNED-PAYLOAD":
            return
        with self._world.lock:
            if not self._world.store.setting("storage_checks_sha256", False):
                return
        path, found = self._shelf.path(file), hashlib.sha256()
        for chunk in read(path, 0, path.stat().st_size):
            found.update(chunk)
        if found.hexdigest() != claimed:
            path.unlink()
            told = "The provided 'x-goog-content-sha256' header does not match what was computed."
            raise StorageError(
                400, told, "invalid", Xml(code="XAmzContentSHA256Mismatch", message=told)
            )

    def post(self, request: Request) -> Answer:
        """Begin a resumable upload (`x-goog-resumable: start`), or one of many parts."""
        if "uploadId" in request.params:
            return self._parts.complete(request)
        wish = self._wish(request)
        self._intake.check(wish)
        if "uploads" in request.params:
            return self._parts.begin(wish)
        if request.headers.get("x-goog-resumable") != "start":
            raise bad("POST on an object begins a resumable upload, with x-goog-resumable: start.")
        length = request.headers.get("x-upload-content-length", "")
        total = int(length) if length.isdigit() else None
        session = self._sessions.open(wish, total=total, xml=True)
        query = f"{request.query}&" if request.query else ""
        place = f"http://{request.headers['host']}{request.path}?{query}upload_id={session}"
        return Answer(status=201, data=b"", headers={"Location": place})

    def delete(self, request: Request) -> Answer:
        """Delete an object, or give a resumable upload up."""
        if "upload_id" in request.params:
            return self._sessions.cancel(request)
        if "uploadId" in request.params:
            return self._parts.abort(request)
        with self._world.lock:
            self._objects.remove(
                request.args["bucket"],
                request.args["object"],
                generation_of(request.params),
                Preconditions.from_headers(request.headers),
            )
        return Answer(status=204)

    def _wish(self, request: Request) -> Wish:
        headers = request.headers
        resource: Doc = {field: headers[h] for h, field in _HEADERS.items() if h in headers}
        own = {k[len(_META) :]: v for k, v in headers.items() if k.startswith(_META)}
        if own:
            resource["metadata"] = own
        bounds = headers.get("x-goog-content-length-range")
        return Wish(
            bucket=request.args["bucket"],
            name=request.args["object"],
            resource=resource,
            conditions=Preconditions.from_headers(headers),
            sizes=_sizes(bounds) if bounds else None,
        )

    def routes(self) -> list[Route]:
        """Return the routes, the greediest of all: what no other API knows is a bucket."""
        table = [
            ("GET", self.get, "get"),
            ("HEAD", self.get, "get"),
            ("PUT", self.put, "insert"),
            ("POST", self.post, "insert"),
            ("DELETE", self.delete, "delete"),
        ]
        return [
            Route(
                method=m,
                pattern="/{bucket}/{object...}",
                handler=functools.partial(self._spoken, h),
                verb=f"storage.xml.{v}",
                locked=False,
            )
            for m, h, v in table
        ]

    def _spoken(self, handler: Callable[[Request], Answer], request: Request) -> Answer:
        """Answer in XML, refusals too."""
        if request.args["bucket"] in _NO_BUCKETS or not request.args["object"]:
            return no_page()
        try:
            self._admitted(request)
            return handler(request)
        except GoogleError as error:
            return in_xml(error)


def _head(resource: Doc) -> Answer:
    return Answer(
        stream=(),
        length=int(resource["size"]),
        headers=media_headers(resource),
        media_type=resource.get("contentType", "application/octet-stream"),
    )


def _overridden(answer: Answer, request: Request) -> Doc:
    """Return what `response-content-…` in the query changes; for signed requests only."""
    if not is_signed(request.query):
        return {}
    changed: Doc = {}
    if "response-content-disposition" in request.params:
        disposition = request.params["response-content-disposition"]
        changed["headers"] = {**answer.headers, "Content-Disposition": disposition}
    if "response-content-type" in request.params:
        changed["media_type"] = request.params["response-content-type"]
    return changed


def _stored(resource: Doc) -> Answer:
    kept = {"X-Goog-Generation", "X-Goog-Metageneration", "X-Goog-Hash"}
    kept |= {"X-Goog-Stored-Content-Encoding", "X-Goog-Stored-Content-Length"}
    headers = {k: v for k, v in media_headers(resource).items() if k in kept}
    return Answer(data=b"", headers={"ETag": f'"{xml_etag(resource)}"', **headers})


def _sizes(text: str) -> tuple[int, int]:
    least, _, most = text.partition(",")
    if not least.strip().isdigit() or not most.strip().isdigit():
        raise bad(f"Invalid x-goog-content-length-range: {text}")
    return int(least), int(most)
