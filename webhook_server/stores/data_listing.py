"""Keep the list of a `gs://` dataset's objects, as they were when its run was accepted.

Lines of JSON in one blob: the first names the bucket, each other one object at one generation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Protocol, TypeVar

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.tree_form import joined
from webhook_server.runs.data_cache import listing_key
from webhook_server.stores.blob_protocol import Announced, BlobStore

T = TypeVar("T")
_PAGE_BYTES = 256 << 10  # a page of objects and the start of one more: no line is longer


@dataclass(frozen=True, kw_only=True)
class ListedObject:
    """One object of a bucket, bound to one generation: its bytes never change."""

    path: str  # relative to the mount
    name: str  # the object's
    generation: int
    size_bytes: int
    md5: str | None = None  # 32 hex digits; composite objects have none
    crc32c: str | None = None  # 8 hex digits


@dataclass(frozen=True, kw_only=True)
class ListingHead:
    """What the list is of."""

    bucket: str


class ObjectSigner(Protocol):
    """Signs addresses of users' own buckets."""

    def address(self, bucket: str, found: ListedObject, life: timedelta) -> str | None:
        """Return an address of this generation, or None where nobody can sign."""


def listing_bytes(bucket: str, objects: Iterable[ListedObject]) -> bytes:
    """Return the list as it is kept: equal objects have equal bytes, whatever their order."""
    ordered = sorted(objects, key=lambda one: one.path)
    lines = (_line(value) for value in (ListingHead(bucket=bucket), *ordered))
    return b"".join(joined(lines))


def keep_listing(blobs: BlobStore, repository_id: int, key: str, content: bytes) -> None:
    """Store a list under the key of its dataset. Safe to repeat. Raises: Transient, OSError."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = listing_key(repository_id, key)
    blob = Announced(size_bytes=len(content), sha256=sha256)
    if blobs.has(target, blob):
        return
    receipt = blobs.receive(target, blob)
    try:
        receipt.write(content)
        receipt.finish()
    finally:
        receipt.abort()


@dataclass(frozen=True, kw_only=True)
class ListingPage:
    """Some objects of a list."""

    bucket: str
    objects: tuple[ListedObject, ...]
    after: int | None  # where the next page begins, in bytes; None: there is none


def read_page(content: BinaryIO, after: int, limit: int) -> ListingPage:
    """Return up to `limit` objects from a place that an earlier page named; 0: the beginning.

    Raises: UserError for a place that none named, Transient.
    """
    head = _first_line(content)
    content.seek(after or len(head) + 1)
    place = after or len(head) + 1
    found: list[ListedObject] = []
    more = False
    for line in _lines(content):
        if len(found) == limit:
            more = True
            break
        found.append(_read(ListedObject, line))
        place += len(line) + 1
    bucket = _read(ListingHead, head).bucket
    return ListingPage(bucket=bucket, objects=tuple(found), after=place if more else None)


def _first_line(content: BinaryIO) -> bytes:
    content.seek(0)
    return next(_lines(content), b"")


def _lines(content: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := content.read(_PAGE_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _line(value: object) -> bytes:
    return json.dumps(encode(value), separators=(",", ":")).encode() + b"\n"


def _read(kind: type[T], line: bytes) -> T:
    try:
        return decode(kind, json.loads(line))
    except ValueError as error:
        raise UserError("after: should be a place that a page named. Begin anew.") from error
