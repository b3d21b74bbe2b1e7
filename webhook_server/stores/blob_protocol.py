"""What a store of blobs promises; a blob is there whole or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO, Protocol

from cynthus.errors import Refused

# Only this server makes keys, from numbers and digests: nothing a user wrote becomes a path.
_KEY = re.compile(r"\A[0-9]{1,20}/[a-z0-9]{1,32}/[0-9]{1,9}/[0-9a-f]{64}\Z", re.ASCII)


#: A folder of keys: the first members of one, whole, with a slash after each.
_PREFIX = re.compile(r"\A[0-9]{1,20}/([a-z0-9]{1,32}/([0-9]{1,9}/)?)?\Z", re.ASCII)


class BlobMismatch(Refused):
    """The bytes that came are not those that were announced."""


@dataclass(frozen=True, kw_only=True)
class Announced:
    """The bytes that an agent says it has."""

    size_bytes: int
    sha256: str  # 64 hex digits; empty: not known before the last byte
    over: int | None = None  # takes the place of this generation only, 0: of nothing
    md5: str | None = None  # 32 hex digits; told after an upload that did not pass this server


@dataclass(frozen=True, kw_only=True)
class DirectPut:
    """How an agent brings one blob straight to where blobs lie."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)  # all of them are signed
    resumable: bool = False  # by content-range, continued where a cut left it


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """One blob as a list of them tells it."""

    key: str
    size_bytes: int
    stored_at: datetime  # by the clock of where it lies


class Receipt(Protocol):
    """One blob on its way in."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises BlobMismatch as soon as there are too many."""

    def finish(self) -> None:
        """Make the blob visible, durable; raises BlobMismatch for a wrong size or digest."""

    def abort(self) -> None:
        """Leave nothing behind; harmless after `finish`."""


class BlobStore(Protocol):
    """A place that keeps blobs. Each call may raise Transient: try again."""

    def receive(self, key: str, blob: Announced) -> Receipt:
        """Begin to take in a blob of exactly this size, and digest where one was announced.

        `finish` raises BlobMismatch where something else lies there than `blob.over`.
        """

    def generation(self, key: str) -> int:
        """Return a number that is another for every blob that lies here; 0: none does."""

    def has(self, key: str, blob: Announced) -> bool:
        """Return whether exactly this blob is here and its content is proven.

        Never without a digest.
        """

    def size(self, key: str) -> int | None:
        """Return the blob's size, or None when it is not here."""

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading, or None when it is not here."""

    def usage(self, prefix: str) -> tuple[int, int]:
        """Return how many blobs lie under `prefix`, with their bytes."""

    def proven(self, key: str, blob: Announced) -> bool:
        """Return whether the blob under a key that ends in its own SHA-256 came whole.

        As `has`, but nothing is read again: what was proven when it came is what counts.
        """

    def stored(self, prefix: str) -> Iterator[StoredBlob]:
        """Yield what lies under `prefix`, a folder of keys such as 41/data/; a page at a time."""

    def delete(self, key: str) -> bool:
        """Remove a blob; return whether it was here. Safe to repeat."""

    def direct_put(self, key: str, blob: Announced, life: timedelta) -> DirectPut | None:
        """Return how to bring it past this server, to begin within `life`; None: through it."""

    def direct_url(self, key: str, disposition: str, life: timedelta) -> str | None:
        """Return an address past this server that answers with this `content-disposition`."""

    def close(self) -> None:
        """End kept connections. Safe to repeat."""


def blob_key(repository_id: int, run_id: str, attempt: int, path: str) -> str:
    """Return where an attempt's output lies; scoped by repository, free of user text."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{repository_id}/{run_id}/{attempt}/{digest}"


def is_key(text: str) -> bool:
    """Return whether `text` has the shape of a key that this server makes."""
    return _KEY.match(text) is not None


def is_prefix(text: str) -> bool:
    """Return whether `text` names a folder of keys: a repository's, or one within it."""
    return _PREFIX.match(text) is not None


class Measure:
    """Counts and hashes what arrives of an announced blob."""

    def __init__(self, blob: Announced) -> None:
        self._blob = blob
        self._digest = hashlib.sha256()
        self._received = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes; raises BlobMismatch as soon as there are too many."""
        self._received += len(chunk)
        if self._received > self._blob.size_bytes:
            raise BlobMismatch(
                f"body: should have {self._blob.size_bytes} bytes, found more."
                " Ask for a new upload."
            )
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        """Return the digest of what has come, as 64 hex digits."""
        return self._digest.hexdigest()

    def check(self) -> None:
        """Raise BlobMismatch unless all has come, with the digest that was announced."""
        if self._received != self._blob.size_bytes:
            raise BlobMismatch(
                f"body: should have {self._blob.size_bytes} bytes, found {self._received}."
                " Send the whole file."
            )
        if self._blob.sha256 and self._digest.hexdigest() != self._blob.sha256:
            raise BlobMismatch(
                "body: should have the announced SHA-256, found another."
                " Ask for a new upload: the file has changed."
            )
