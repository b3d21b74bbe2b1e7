"""Answer the registry API as one vendor does.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlencode

from simulators.oci_http import Answer, Refusal, Request, json_answer
from simulators.oci_store import DIGEST, Kept, Store
from simulators.oci_tokens import TokenService
from simulators.oci_vendors import Vendor

_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_RANGE = re.compile(r"(\d+)-(\d+)")
_LARGEST_MANIFEST = 4 << 20  # Distribution's and everybody's limit
_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_FOREIGN = "foreign"  # layers that lie elsewhere are not asked for

Handler = Callable[[Request, str, str], Answer]


class Api:
    """One registry."""

    def __init__(self, vendor: Vendor, store: Store, tokens: TokenService) -> None:
        self.vendor, self.store, self.tokens = vendor, store, tokens
        self.url = ""
        self.made: set[str] = set()  # repositories that may be pushed to, where that matters
        self._states: dict[str, int] = {}  # what each upload's `_state` says: the offset
        self._signed: dict[str, str] = {}  # storage addresses that were given out
        self._routes: list[tuple[re.Pattern[str], dict[str, tuple[str, Handler]]]] = [
            (_path(r"blobs/uploads/?"), {"POST": ("push", self._begin)}),
            (
                _path(r"blobs/uploads/(?P<rest>[^/]+)"),
                {
                    "GET": ("push", self._progress),
                    "PATCH": ("push", self._patch),
                    "PUT": ("push", self._finish),
                    "DELETE": ("push", self._cancel),
                },
            ),
            (_path(r"blobs/(?P<rest>[^/]+)"), _both("pull", self._blob)),
            (
                _path(r"manifests/(?P<rest>[^/]+)"),
                {
                    **_both("pull", self._manifest),
                    "PUT": ("push", self._put),
                    "DELETE": ("delete", self._delete),
                },
            ),
            (_path(r"tags/list"), _both("pull", self._tags)),
        ]

    def answer(self, request: Request) -> Answer:
        """Answer a request below /v2/ or a storage address.

        Raises: Refusal.
        """
        if request.path.startswith("/storage/"):
            return self._storage(request)
        path = _ELSEWHERE.sub(r"/v2/\1/blobs/uploads/\2", unquote(request.path))
        if path in {"/v2", "/v2/"}:
            self.tokens.check(request, "", "")
            return json_answer({})
        for pattern, methods in self._routes:
            if found := pattern.fullmatch(path):
                return self._answer(request, found, methods)
        raise Refusal(404, "NAME_UNKNOWN", "repository name not known to registry")

    def _answer(
        self, request: Request, found: re.Match[str], methods: dict[str, tuple[str, Handler]]
    ) -> Answer:
        if request.method not in methods:
            raise Refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        action, handler = methods[request.method]
        name = found["name"]
        # An upload's address elsewhere is a secret that speaks for itself: Docker shows a token
        # only below /v2/.
        if not _ELSEWHERE.fullmatch(unquote(request.path)):
            self.tokens.check(request, name, action)
        low, high = self.vendor.name_parts
        if not low <= name.count("/") + 1 <= high:
            raise Refusal(403, "DENIED", "requested access to the resource is denied")
        if self.vendor.made_before and "/".join(name.split("/")[:2]) not in self.made:
            message = f'Repository "{name.split("/")[1]}" not found'
            raise Refusal(404, "NAME_UNKNOWN", message)
        return handler(request, name, found.groupdict().get("rest") or "")

    # ── uploads ─────────────────────────────────────────────────────────────────────────────────

    def _begin(self, request: Request, name: str, _rest: str) -> Answer:
        wanted, source = request.params.get("mount", ""), request.params.get("from", "")
        if DIGEST.fullmatch(wanted) and source and self._may_mount(request, source, wanted):
            self.store.link(name, wanted)
            return self._blob_made(name, wanted)
        return self._session(name, self.store.begin(name), 202)

    def _may_mount(self, request: Request, source: str, digest: str) -> bool:
        try:
            self.tokens.check(request, source, "pull")
        except Refusal:
            return False
        return self.store.blob(source, digest) is not None

    def _session(self, name: str, upload: str, status: int) -> Answer:
        size = self.store.size(name, upload) or 0
        state = secrets.token_urlsafe(16)
        self._states[state] = size
        path = f"/v2/{name}/blobs/uploads/{upload}"
        if self.vendor.location == "elsewhere":
            path = f"/artifacts-uploads/namespaces/{name}/uploads/{upload}"
        location = path if self.vendor.location == "relative" else self.url + path
        if self.vendor.location == "state":
            location += f"?_state={state}"
        headers = {
            "Location": location,
            "Range": f"0-{max(size - 1, 0)}",
            "Docker-Upload-UUID": upload,
        }
        return Answer(status=status, headers=headers)

    def _open(self, request: Request, name: str, upload: str) -> int:
        """Return an upload's size; the address must be the newest one."""
        size = self.store.size(name, upload)
        if size is None:
            raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {})
        if self.vendor.location == "state":
            state = self._states.get(request.params.get("_state", ""))
            if state is None or (state != size and not self.vendor.resumes):
                self.store.drop(upload)
                raise Refusal(404, "BLOB_UPLOAD_INVALID", "blob upload invalid")
        return size

    def _progress(self, request: Request, name: str, upload: str) -> Answer:
        self._open(request, name, upload)
        return self._session(name, upload, 204)

    def _patch(self, request: Request, name: str, upload: str) -> Answer:
        size = self._open(request, name, upload)
        told = request.headers.get("content-range")
        if told is not None:
            self._check_range(told, size, request.length)
        self.store.append(upload, request.body)
        return self._session(name, upload, 202)

    def _check_range(self, told: str, size: int, length: int | None) -> None:
        most = self.vendor.most_ranged_bytes
        if most == 0:
            raise Refusal(400, "UNSUPPORTED", "chunked uploads are not supported")
        found = _RANGE.fullmatch(told)
        if found is None:
            raise Refusal(400, "BLOB_UPLOAD_INVALID", "blob upload invalid", "Content-Range")
        first, last = int(found[1]), int(found[2])
        if most is not None and last - first + 1 > most:
            raise Refusal(
                416,
                "REQUESTED_RANGE_NOT_SATISFIABLE",
                "the request body is too large and exceeds the maximum permissible limit of "
                f"{most / (1 << 20):.2f}MiB",
            )
        fits = first == size and (length is None or length == last - first + 1)
        if self.vendor.reads_ranges and not fits:
            raise Refusal(416, "BLOB_UPLOAD_INVALID", "the range does not follow the last one")

    def _finish(self, request: Request, name: str, upload: str) -> Answer:
        digest = request.params.get("digest", "")
        size = self._open(request, name, upload)
        if not DIGEST.fullmatch(digest):
            raise Refusal(400, "DIGEST_INVALID", "digest parsing failed")
        told = request.headers.get("content-range")
        if told is not None:
            self._check_range(told, size, request.length)
        self.store.append(upload, request.body)
        self.store.commit(name, upload, digest)
        return self._blob_made(name, digest)

    def _blob_made(self, name: str, digest: str) -> Answer:
        path = f"/v2/{name}/blobs/{digest}"
        location = path if self.vendor.location == "relative" else self.url + path
        return Answer(status=201, headers={"Location": location, "Docker-Content-Digest": digest})

    def _cancel(self, request: Request, name: str, upload: str) -> Answer:
        if not self.vendor.cancels:
            raise Refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        self._open(request, name, upload)
        self.store.drop(upload)
        return Answer(status=204)

    # ── blobs ───────────────────────────────────────────────────────────────────────────────────

    def _blob(self, request: Request, name: str, digest: str) -> Answer:
        if not DIGEST.fullmatch(digest):
            message = "provided digest did not match uploaded content"
            raise Refusal(400, "DIGEST_INVALID", message, {})
        path = self.store.blob(name, digest)
        if path is None:
            raise Refusal(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)
        if request.method == "GET" and self.vendor.redirect_status:
            key = secrets.token_urlsafe(16)
            self._signed[key] = digest
            elsewhere = self.url.replace("127.0.0.1", "localhost")  # another origin, for clients
            location = f"{elsewhere}/storage/{digest}?sig={key}"
            return Answer(status=self.vendor.redirect_status, headers={"Location": location})
        return self._content(request, digest)

    def _storage(self, request: Request) -> Answer:
        """Give a blob to whoever has its signed address; a second credential is refused.

        As S3 and Azure do, where `docker pull` follows a registry to.
        """
        digest = request.path.removeprefix("/storage/")
        if request.headers.get("authorization"):
            raise Refusal(400, "INVALID_ARGUMENT", "Only one auth mechanism allowed")
        if self._signed.get(request.params.get("sig", "")) != digest:
            raise Refusal(403, "ACCESS_DENIED", "the signature does not match")
        return self._content(request, digest)

    def _content(self, request: Request, digest: str) -> Answer:
        path = self.store.stored(digest)
        size = path.stat().st_size
        headers = {"Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        answer = Answer(file=path, headers=headers, media_type="application/octet-stream")
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if found is not None:
            answer.offset = int(found[1])
            if answer.offset >= size:
                raise Refusal(416, "RANGE_INVALID", "invalid content range")
            answer.status = 206
            headers["Content-Range"] = f"bytes {answer.offset}-{size - 1}/{size}"
        return answer

    # ── manifests ───────────────────────────────────────────────────────────────────────────────

    def _manifest(self, request: Request, name: str, reference: str) -> Answer:
        kept = self.store.manifest(name, reference)
        accepted = request.headers.get("accept", "")
        if kept is None or (kept.media_type not in accepted and "*/*" not in accepted):
            raise Refusal(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Tag": reference})
        headers = {"Docker-Content-Digest": kept.digest, "ETag": f'"{kept.digest}"'}
        return Answer(data=kept.body, media_type=kept.media_type, headers=headers)

    def _put(self, request: Request, name: str, reference: str) -> Answer:
        body = request.whole(_LARGEST_MANIFEST)
        if len(body) > _LARGEST_MANIFEST:
            detail = "http: request body too large"
            raise Refusal(400, "MANIFEST_INVALID", "manifest invalid", detail)
        media_type = request.headers.get("content-type", "")
        self._check_manifest(name, media_type, body)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if ":" in reference and reference != digest:
            message = "provided digest did not match uploaded content"
            raise Refusal(400, "DIGEST_INVALID", message)
        if ":" not in reference and not _TAG.fullmatch(reference):
            raise Refusal(400, "TAG_INVALID", "manifest tag did not match URI")
        self.store.put(name, reference, Kept(digest=digest, media_type=media_type, body=body))
        location = f"{self.url}/v2/{name}/manifests/{digest}"
        return Answer(status=201, headers={"Location": location, "Docker-Content-Digest": digest})

    def _check_manifest(self, name: str, media_type: str, body: bytes) -> None:
        try:
            found = json.loads(body)
            named = found.get("mediaType", media_type)
            parts = self._parts(found, media_type)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise Refusal(400, "MANIFEST_INVALID", "manifest invalid", str(error)) from None
        if named != media_type or found.get("schemaVersion") != 2:
            raise Refusal(400, "MANIFEST_INVALID", "manifest invalid", "mediaType")
        missing = [digest for digest in parts if not self._is_there(name, media_type, digest)]
        if missing:
            refusal = Refusal(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
            refusal.errors = [{**refusal.errors[0], "detail": digest} for digest in missing]
            raise refusal

    def _parts(self, found: dict[str, Any], media_type: str) -> list[str]:
        if media_type in _INDEXES:
            return [part["digest"] for part in found["manifests"]]
        if media_type not in _MANIFESTS:
            raise ValueError(f"unrecognized manifest content type {media_type}")
        parts = [found["config"], *found["layers"]]
        return [part["digest"] for part in parts if _FOREIGN not in part.get("mediaType", "")]

    def _is_there(self, name: str, media_type: str, digest: str) -> bool:
        if media_type in _INDEXES:
            return self.store.manifest(name, digest) is not None
        return self.store.blob(name, digest) is not None

    def _delete(self, _request: Request, name: str, reference: str) -> Answer:
        if self.vendor.deletes == "none":
            raise Refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        is_digest = DIGEST.fullmatch(reference) is not None
        if (
            not is_digest and self.vendor.deletes == "oci"
        ):  # Distribution 2.8 deletes by digest only
            message = "provided digest did not match uploaded content"
            raise Refusal(400, "DIGEST_INVALID", message)
        kept = self.store.manifest(name, reference)
        if kept is None:
            raise Refusal(404, "MANIFEST_UNKNOWN", "unknown manifest")
        if not is_digest:
            self.store.untag(name, reference)
            return Answer(status=202)
        if self.vendor.deletes == "untagged" and kept.digest in self.store.tags(name).values():
            message = f'Manifest "{reference}" is still referenced by one or more tags'
            raise Refusal(400, "GOOGLE_MANIFEST_DANGLING_TAG", message)
        self.store.remove(name, kept.digest)
        return Answer(status=202)

    def _tags(self, request: Request, name: str, _rest: str) -> Answer:
        if not self.store.exists(name):
            message = "repository name not known to registry"
            raise Refusal(404, "NAME_UNKNOWN", message, {"name": name})
        wanted = request.params.get("n", "")
        most = int(wanted) if wanted.isdigit() else self.vendor.tags_a_page
        last = request.params.get("last", "")
        left = sorted(tag for tag in self.store.tags(name) if tag > last)
        page = left if most is None else left[:most]
        headers = {}
        if len(page) < len(left):
            query = urlencode({"last": page[-1] if page else last, "n": most})
            headers["Link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
        return json_answer({"name": name, "tags": page or None}, headers=headers)


# Where Artifact Registry's uploads lie.
_ELSEWHERE = re.compile(r"/artifacts-uploads/namespaces/(.+)/uploads/([^/]+)$")


def _path(rest: str) -> re.Pattern[str]:
    return re.compile(rf"/v2/(?P<name>{_NAME})/{rest}")


def _both(action: str, handler: Handler) -> dict[str, tuple[str, Handler]]:
    return {"GET": (action, handler), "HEAD": (action, handler)}
