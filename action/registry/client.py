"""Talk to one container registry: manifests, blobs, mounts, tags.

The OCI distribution specification with the standard library alone:
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
What each vendor does otherwise is in `action.registry.registries`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote, urlencode

from action.failures import RegistryRefused
from action.registry import faults
from action.registry.challenge import scope
from action.registry.connections import PIECE_BYTES, Connections, Request, body_of
from action.registry.door import Door, Wait, Wish
from action.registry.faults import Asked
from action.registry.reading import EXPECTED, BlobReader, blob_request
from action.registry.reference import is_digest
from action.registry.registries import MANIFEST_TYPES, Kind, kind_of
from action.registry.tokens import Credentials
from action.registry.upload import Blob, Told, Upload

__all__ = ["Blob", "Manifest", "Registry", "digest_of"]

_OK, _CREATED, _ACCEPTED, _NOT_FOUND = 200, 201, 202, 404
_TAGS_A_PAGE = 1000  # what most give at once: more is cut by them
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest as it is stored: its digest is of these very bytes."""

    media_type: str
    digest: str
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """Return its content.

        Raises: RegistryRefused when it is not a JSON object.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise RegistryRefused(
                f"the manifest {self.digest}: should be a JSON object. Push it anew."
            )
        return found


def digest_of(content: bytes) -> str:
    """Return the digest by which registries know content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """One registry, safe to share between threads; keeps connections and tokens.

    Every method raises RegistryRefused or RegistryAway (`action.failures`), with host and
    repository in the sentence, and is safe to repeat.
    """

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        wait: Wait = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        kind: Kind | None = None,
    ) -> None:
        self.host = host
        self.kind = kind or kind_of(host)
        self._connections = Connections(clock)
        self._door = Door(
            host, self.kind, credentials, wait=wait, clock=clock, connections=self._connections
        )
        self._sessions: dict[tuple[str, str], str] = {}  # opened by a mount that was not granted
        # What stands under a digest never changes: it is asked for once.
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._contents: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connections.close()

    # ── manifests ───────────────────────────────────────────────────────────────────────────────

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """Return the manifest by tag or digest, checked; None: there is none."""
        if known := self._manifests.get((repository, reference)):
            return known
        path = f"manifests/{quote(reference, safe=':')}"
        wish = self._wish("GET", repository, path, f"give the manifest {reference}")
        limit = self.kind.most_manifest_bytes
        page = self._door.ask(wish.but(headers={"Accept": ", ".join(MANIFEST_TYPES)}), limit + 1)
        if page.status == _NOT_FOUND:
            return None
        if len(page.body) > limit:
            raise faults.broken(wish.asked, "one that is too large to be a manifest").error
        named = reference if is_digest(reference) else page.headers.get("Docker-Content-Digest")
        algorithm = "sha512" if named and named.startswith("sha512:") else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, page.body).hexdigest()}"
        if named and named != digest:
            raise faults.broken(wish.asked, f"content with the digest {digest}").error
        kind = page.headers.get_content_type()
        found = Manifest(media_type=kind, digest=digest, body=page.body)
        self._manifests[repository, digest] = found
        return found

    def put_manifest(self, repository: str, reference: str, body: bytes, media_type: str) -> str:
        """Store a manifest under a tag or its digest; return its digest.

        Raises: BlobsMissing when a blob it names has vanished: upload that one anew.
        """
        digest = digest_of(body)
        if len(body) > self.kind.most_manifest_bytes:
            raise RegistryRefused(
                f"{self.host}/{repository}: should be given a manifest of at most "
                f"{self.kind.most_manifest_bytes} bytes, found {len(body)}. Name fewer layers."
            )
        path = f"manifests/{quote(reference, safe=':')}"
        wish = self._wish("PUT", repository, path, f"take the manifest {reference}")
        page = self._door.ask(wish.but(headers={"Content-Type": media_type}, body=body_of(body)))
        stored = page.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise faults.broken(wish.asked, f"it stored {stored} instead of {digest}").error
        return digest

    def delete_manifest(self, repository: str, reference: str) -> bool:
        """Delete a manifest by digest (or a tag, where the registry knows that); False: not there.

        Raises: RegistryRefused where it is done in another way: `registries.Kind.deletes`.
        """
        path = f"manifests/{quote(reference, safe=':')}"
        wish = self._wish("DELETE", repository, path, f"delete {reference}")
        self._manifests.clear()
        return self._door.ask(wish).status != _NOT_FOUND

    def tags(self, repository: str) -> Iterator[str]:
        """Yield the tags of a repository, page by page; none when there is no repository.

        Raises: also RegistryAway for a list that leads in a circle.
        """
        rest = f"tags/list?{urlencode({'n': _TAGS_A_PAGE})}"
        wish = self._wish("GET", repository, rest, "list its tags")
        seen: set[str] = set()
        while wish.request.url not in seen:
            seen.add(wish.request.url)
            page = self._door.ask(wish)
            if page.status == _NOT_FOUND:
                return
            yield from _tags_of(page.body, wish.asked)
            link = _NEXT.search(page.headers.get("Link") or "")
            if link is None:
                return
            wish = wish.but(url=self._door.resolve(page.url, link[1], wish.asked))
        raise faults.broken(wish.asked, "a list that leads in a circle").error

    # ── blobs ───────────────────────────────────────────────────────────────────────────────────

    def blob_size(self, repository: str, digest: str) -> int | None:
        """Return a blob's size in bytes; None: it is not there."""
        wish = self._blob_wish("HEAD", repository, digest, "know the blob")
        page = self._door.ask(wish)
        if page.status == _NOT_FOUND:
            return None
        length = page.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else 0

    def mount(self, repository: str, digest: str, *, source: str) -> bool:
        """Have a blob of another repository here too, without its bytes; False: send them.

        A refusal is no failure: it may be that we must not read the source, and Harbor answers 401
        where 202 is meant: https://github.com/goharbor/harbor/issues/17097
        """
        if not self.kind.mounts:
            return False
        query = urlencode({"mount": digest, "from": source})
        wish = self._wish("POST", repository, f"blobs/uploads/?{query}", f"mount {digest}")
        scopes = (*wish.scopes, scope(source, "pull"))
        try:
            page = self._door.ask(replace(wish.but(body=body_of(b"")), scopes=scopes))
        except RegistryRefused:
            return False
        location = page.headers.get("Location")
        if page.status == _ACCEPTED and location:
            with self._lock:
                self._sessions[repository, digest] = self._door.resolve(
                    page.url, location, wish.asked
                )
        return page.status == _CREATED

    def upload(
        self, repository: str, blob: Blob, told: Told = lambda _: None, *, ask: bool = True
    ) -> bool:
        """Have a blob there; False: it was there already. `told` hears how many bytes are sent.

        Without `ask` it is sent at once, for a blob that is new in all likelihood: a registry that
        has it takes it again.
        """
        limit = self.kind.most_blob_bytes
        if limit is not None and blob.size_bytes > limit:
            raise RegistryRefused(
                f"{self.host}/{repository}: should be given blobs of at most {limit} bytes, found "
                f"{blob.size_bytes}. Leave files out, or name another registry."
            )
        with self._lock:
            session = self._sessions.pop((repository, blob.digest), None)
        if ask and session is None and self.has(repository, blob.digest):
            return False
        Upload(self._door, repository, blob, told).send(session)
        return True

    def has(self, repository: str, digest: str) -> bool:
        """Say whether a blob is there, where more shall go.

        It is asked with the right to push, which the upload after it needs: one token for both.
        """
        wish = self._blob_wish("HEAD", repository, digest, "know the blob")
        wish = replace(wish, scopes=(scope(repository, "pull", "push"),))
        return self._door.ask(wish).status != _NOT_FOUND

    @contextmanager
    def read(self, repository: str, digest: str, *, offset: int = 0) -> Iterator[BinaryIO]:
        """Open a blob for reading from `offset` bytes; whole, it is checked against its digest."""
        with io.BufferedReader(self._reader(repository, digest, offset), PIECE_BYTES) as content:
            yield content

    def content(self, repository: str, digest: str, limit_bytes: int) -> bytes:
        """Return the beginning of a small blob, whole if it is not longer; asked for once."""
        kept = self._contents.get((repository, digest))
        if kept is None:
            with self.read(repository, digest) as file:
                kept = self._contents[repository, digest] = file.read(limit_bytes)
        return kept

    def _reader(self, repository: str, digest: str, offset: int) -> BlobReader:
        draft = self._blob_wish("GET", repository, digest, "give the blob")
        url = draft.request.url

        def wish(place: int) -> Wish:
            return Wish(
                request=blob_request(url, place),
                scopes=draft.scopes,
                asked=draft.asked,
                expected=EXPECTED,
            )

        return BlobReader(self._door, draft.asked, wish, digest=digest, offset=offset)

    def blob(self, repository: str, digest: str, size_bytes: int) -> Blob:
        """Return a blob that is read from here while it is sent elsewhere: no disk between them."""

        def opened() -> BinaryIO:
            reader = self._reader(repository, digest, 0)
            return io.BufferedReader(reader, PIECE_BYTES)

        return Blob(digest=digest, size_bytes=size_bytes, open=opened)

    def _blob_wish(self, method: str, repository: str, digest: str, words: str) -> Wish:
        """Return a wish for a blob; a manifest of a stranger may name it by anything."""
        if not is_digest(digest):
            raise RegistryRefused(
                f"{self.host}/{repository}: should name its blobs by sha256: and 64 hex digits, "
                f"found {digest[:100]!r}. Push the image anew."
            )
        return self._wish(method, repository, f"blobs/{digest}", f"{words} {digest}")

    def _wish(self, method: str, repository: str, rest: str, words: str) -> Wish:
        rights, expected = _RIGHTS[method]
        return Wish(
            request=Request(method=method, url=f"{self._door.url}/v2/{quote(repository)}/{rest}"),
            scopes=(scope(repository, *rights),),
            asked=self._door.asked(repository, words, reads=method in {"GET", "HEAD"}),
            expected=expected,
        )


# What each method needs (https://distribution.github.io/distribution/spec/auth/scope/), and which
# answers are answers to it.
_RIGHTS: dict[str, tuple[tuple[str, ...], frozenset[int]]] = {
    "GET": (("pull",), frozenset({_OK, _NOT_FOUND})),
    "HEAD": (("pull",), frozenset({_OK, _NOT_FOUND})),
    "POST": (("pull", "push"), frozenset({_CREATED, _ACCEPTED})),
    "PUT": (("pull", "push"), frozenset({_CREATED})),
    "DELETE": (("delete", "pull"), frozenset({_ACCEPTED, _OK, _NOT_FOUND})),
}


def _tags_of(body: bytes, asked: Asked) -> list[str]:
    try:
        found = json.loads(body)["tags"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise faults.broken(asked, _NO_TAGS).error from None
    if found is None:  # Distribution's word for a repository that has lost its last tag
        return []
    if not isinstance(found, list):
        raise faults.broken(asked, _NO_TAGS).error
    return [tag for tag in found if isinstance(tag, str)]


_NO_TAGS = "something that is no list of tags"
