"""List what lies under a prefix of a user's bucket, each object at its generation."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from google.api_core.exceptions import Forbidden, NotFound, Unauthorized
from google.cloud.storage import Blob

from cynthus.errors import Refused
from webhook_server.settings import Settings
from webhook_server.stores.data_listing import ListedObject
from webhook_server.stores.gcs_blobs import open_client
from webhook_server.stores.google_access import ASK_RETRY, ASK_TIMEOUT, spoken, told

_FIELDS = "items(name,generation,size,md5Hash,crc32c),nextPageToken"
PAGE = 1000  # https://cloud.google.com/storage/docs/json_api/v1/objects/list: the most


class BucketClosed(Refused):
    """The bucket is not there, or this server may not list it."""


class BucketListing:
    """Lists with the server's own credentials; safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._client = open_client(settings)

    def close(self) -> None:
        """End kept connections. Safe to repeat."""
        self._client.close()

    def below(self, bucket: str, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects whose names begin with `prefix`, by name; their paths are whole names.

        Raises: BucketClosed, Transient, Refused.
        """
        place = f"gs://{bucket}"
        with spoken(place, "Grant it roles/storage.objectViewer on the bucket."):
            try:
                found = self._client.list_blobs(
                    bucket,
                    prefix=prefix or None,
                    fields=_FIELDS,
                    page_size=PAGE,
                    timeout=ASK_TIMEOUT,
                    retry=ASK_RETRY,
                )
                for one in found:
                    yield _listed(one)
            except (Forbidden, Unauthorized) as error:
                raise BucketClosed(
                    f"{place} should let this server list it, found {told(error)}. Its owner grants"
                    " roles/storage.objectViewer to the server's account."
                ) from error
            except NotFound as error:
                raise BucketClosed(
                    f"{place} should be a bucket, found none of this name."
                ) from error


def _listed(one: Blob) -> ListedObject:
    return ListedObject(
        path=one.name,
        name=one.name,
        generation=int(one.generation),
        size_bytes=int(one.size or 0),
        md5=_hex(one.md5_hash),
        crc32c=_hex(one.crc32c),
    )


def _hex(text: str | None) -> str | None:
    """Return base64 as hex digits; composite objects have no MD5."""
    return base64.b64decode(text).hex() if text else None
