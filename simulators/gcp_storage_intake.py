"""How bytes that arrived become an object, whichever way they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.gcp_http import Request
from simulators.gcp_state import Doc
from simulators.gcp_storage_bytes import CHUNK, Digest
from simulators.gcp_storage_keys import check_key
from simulators.gcp_storage_objects import check_acl, new_resource
from simulators.gcp_storage_refusals import StorageError, Xml
from simulators.gcp_storage_rules import Preconditions, check_metadata, check_object_name
from simulators.gcp_storage_state import Shelf


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a client wants an upload to become."""

    bucket: str
    name: str
    resource: Mapping[str, Any]
    conditions: Preconditions
    sizes: tuple[int, int] | None = None  # the bounds of `x-goog-content-length-range`


class Intake:
    """Takes bytes into files and files into the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.world = shelf.world

    def check(self, wish: Wish) -> None:
        """Refuse early what could never become an object."""
        with self.world.lock:
            bucket = self.shelf.bucket(wish.bucket)
            check_object_name(wish.name)
            check_acl(bucket, wish.resource)
            check_metadata(wish.resource.get("metadata") or {})
            live = self.shelf.live(wish.bucket, wish.name)
            wish.conditions.check(None if live is None else live["resource"])

    def settle(self, wish: Wish, file: str, digest: Digest, hashes: Mapping[str, str]) -> Doc:
        """Make the bytes of a file an object at once, or refuse and drop them.

        `hashes` are what the client announced beside its metadata: `crc32c`, `md5`.
        """
        try:
            with self.world.lock:
                return self._settled(wish, file, digest, hashes)
        except StorageError:
            self.shelf.path(file).unlink(missing_ok=True)
            raise

    def _settled(self, wish: Wish, file: str, digest: Digest, hashes: Mapping[str, str]) -> Doc:
        if wish.sizes:
            _check_size(digest.size, *wish.sizes)
        digest.check(crc32c=wish.resource.get("crc32c"), md5=wish.resource.get("md5Hash"))
        digest.check(crc32c=hashes.get("crc32c"), md5=hashes.get("md5"))
        bucket = self.shelf.bucket(wish.bucket)
        live = self.shelf.live(wish.bucket, wish.name)
        wish.conditions.check(None if live is None else live["resource"])
        resource = new_resource(bucket, wish.name, wish.resource, digest)
        if "kmsKeyName" in resource:
            check_key(self.world, resource["kmsKeyName"])
        return self.shelf.add(bucket, resource, file)


def _check_size(size: int, least: int, most: int) -> None:
    """Refuse what `x-goog-content-length-range` excludes.

    https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogcontentlengthrange
    """
    if size > most:
        told = "Your proposed upload is larger than the maximum object size specified in your "
        xml = Xml(code="EntityTooLarge", message=f"{told}Policy Document.")
        raise StorageError(
            400, f"Content-length exceeds upper bound on range: {size} > {most}", "invalid", xml
        )
    if size < least:
        told = "Your proposed upload is smaller than the minimum object size specified in your "
        xml = Xml(code="EntityTooSmall", message=f"{told}Policy Document.")
        raise StorageError(
            400,
            f"Content-length smaller than lower bound on range: {size} < {least}",
            "invalid",
            xml,
        )


class Broken(Exception):  # noqa: N818 - nothing is wrong with the program: a cable broke
    """The client, or a fault, ended a body before its end."""


@dataclass(kw_only=True)
class Arriving:
    """A request's body on its way in; raises Broken after the last byte that came, if one lacks."""

    request: Request
    cut_after: int | None = None  # the fault `upload_cut`
    seen: int = field(default=0)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        if self.cut_after is not None:
            left = self.cut_after - self.seen
            size = left if size < 0 else min(size, left)
            if left <= 0:
                raise Broken
        try:
            data = self.request.source.read(size)
        except ConnectionError:
            raise Broken from None
        self.seen += len(data)
        if not data and self.seen < self.expected:
            raise Broken
        return data

    @property
    def expected(self) -> int:
        """Return how many bytes the client announced; 0 where it did not."""
        text = self.request.headers.get("content-length", "0")
        return int(text) if text.isdigit() else 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the body piece by piece."""
        while data := self.read(CHUNK):
            yield data


def arriving(shelf: Shelf, request: Request, bucket: str, name: str) -> Arriving:
    """Return a request's body, struck by `upload_cut` where that is switched on."""
    with shelf.world.lock:
        fault = shelf.world.faults.take("upload_cut", {"bucket": bucket, "object": name})
    return Arriving(request=request, cut_after=int(fault.get("bytes", 0)) if fault else None)
