"""Pin what lies under a prefix of a Cloud Storage bucket: to the list of its generations."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from cynthus.errors import Refused, Transient
from cynthus.frozen import replace
from cynthus.source_parts import source_parts
from cynthus.wire_data import Dataset
from webhook_server.runs.pinning import bind
from webhook_server.settings import Settings
from webhook_server.sources.source import (
    Asked,
    SourceNotFound,
    SourceRefused,
    chosen,
    nothing_left,
)
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.data_listing import ListedObject, keep_listing, listing_bytes

MOST_OBJECTS = 100_000  # the list has 150 bytes of each, and is read a thousand at a time
LISTING_S = 30.0  # a page takes a tenth of a second; a pass's claim ends after 60 s


class Listing(Protocol):
    """Lists a bucket."""

    def below(self, bucket: str, prefix: str) -> Iterable[ListedObject]:
        """Yield the objects by name. Raises: Refused, Transient."""

    def close(self) -> None:
        """End kept connections. Safe to repeat."""


def open_cloud_storage(settings: Settings, blobs: BlobStore) -> CloudStorage:
    """Return the source; nothing of Google's is loaded before somebody names a bucket."""

    def open_listing() -> Listing:
        # Imported late: Google's libraries cost a second and 60 MiB, and most servers need none.
        from webhook_server.stores.gcs_listing import BucketListing

        return BucketListing(settings)

    return CloudStorage(settings.data_buckets, open_listing, blobs)


class CloudStorage:
    """Buckets that the server's settings open to a repository."""

    def __init__(
        self,
        allowed: Sequence[str],
        open_listing: Callable[[], Listing],
        blobs: BlobStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._open, self._blobs, self._clock = allowed, open_listing, blobs, clock

    def pin(self, asked: Asked) -> Dataset:
        """Return the entry at the generations that are there now, whose list is kept.

        Raises: SourceNotFound, SourceRefused; Transient.
        """
        bucket, _, prefix = source_parts(asked.entry.source).name.partition("/")
        self._check_allowed(asked, bucket, prefix)
        found = list(self._found(asked, bucket, prefix))
        is_chosen = chosen(asked.entry.include, asked.entry.exclude)
        objects = [one for one in found if is_chosen(one.path)]
        if not objects:
            raise nothing_left(asked, len(found))
        size = sum(one.size_bytes for one in objects)
        dataset = bind(asked.entry, _revision(objects), size_bytes=size, files=len(objects))
        content = listing_bytes(bucket, objects)
        keep_listing(self._blobs, asked.repository_id, dataset.key, content)
        return dataset

    def _check_allowed(self, asked: Asked, bucket: str, prefix: str) -> None:
        """Refuse what the operator did not open: the server reads with rights of its own."""
        place = f"{asked.place}: gs://{bucket}/{prefix}"
        if asked.stranger:
            raise SourceRefused(
                f"{place} belongs to the repository, and a fork's commit gets nothing of that."
            )
        opened = f"{asked.repository_id}=gs://"
        mine = [one.removeprefix(opened) for one in self._allowed if one.startswith(opened)]
        if not any(is_below(f"{bucket}/{prefix}", one) for one in mine):
            raise SourceRefused(
                f"{place} should be open to this repository, found that it is not. The server's"
                f" operator adds `{opened}{bucket}/{prefix}` to CYNTHUS_DATA_BUCKETS."
            )

    def _found(self, asked: Asked, bucket: str, prefix: str) -> Iterator[ListedObject]:
        """Yield what is staged, with paths below the prefix; folders' markers are nothing."""
        ends_at = self._clock() + LISTING_S
        for number, one in enumerate(self._listed(asked, bucket, prefix)):
            if number >= MOST_OBJECTS:
                raise SourceRefused(
                    f"{asked.place}: should have at most {MOST_OBJECTS} objects, found more. Name a"
                    " longer prefix, or pack them into archives."
                )
            if self._clock() > ends_at:
                raise Transient(
                    f"gs://{bucket}: was not listed within {LISTING_S:.0f} s. Try again."
                )
            path = relative(one.name, prefix)
            if path is not None:
                yield replace(one, path=path)

    def _listed(self, asked: Asked, bucket: str, prefix: str) -> Iterator[ListedObject]:
        try:
            with closing(self._open()) as listing:
                yield from listing.below(bucket, prefix)
        except Refused as error:
            raise SourceNotFound(f"{asked.place}: {error}") from error


def is_below(place: str, opened: str) -> bool:
    """Say whether a bucket with a prefix is what was opened, or lies below it."""
    bucket, _, _ = place.partition("/")
    folder = opened.rstrip("/")
    if folder == bucket:  # all of it
        return True
    return (place.rstrip("/") + "/").startswith(folder + "/")


def relative(name: str, prefix: str) -> str | None:
    """Return where below the mount an object lies; None: it is not meant, or no file.

    `prefix` is a folder, with or without its `/`, or one object's whole name.
    """
    if name.endswith("/"):
        return None
    if name == prefix:
        return name.rpartition("/")[2]
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    return name.removeprefix(folder) if name.startswith(folder) else None


def _revision(objects: Sequence[ListedObject]) -> str:
    """Return the digest of names and generations: equal for equal bytes under equal names.

    https://cloud.google.com/storage/docs/metadata#generation-number
    """
    lines = (f"{one.name}\0{one.generation}\n" for one in sorted(objects, key=lambda o: o.name))
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()
