"""Hand an agent the objects of a `gs://` dataset, a page at a time, with signed addresses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from cynthus.errors import UserError
from cynthus.wire_cache import DataListing, ListedFile
from cynthus.wire_data import Dataset, SourceKind
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Parts
from webhook_server.runs.data_cache import listing_key
from webhook_server.runs.model import Run
from webhook_server.stores.data_listing import ListedObject, ObjectSigner, read_page

PAGE = 100  # where IAM signs, each is a request of some 50 ms: eight at a time are below a second
_PARALLEL = 8
#: To begin: a page is fetched before the next one is asked for, by several at a time.
LIFE = timedelta(minutes=15)
_LONGEST_PLACE = 12  # digits of a place in a list


def listing_page(
    parts: Parts, run: Run, dataset: Dataset, after: str, signer: Callable[[], ObjectSigner]
) -> DataListing:
    """Return a page after the place that the page before named; empty: the first.

    Raises: HttpRefusal, UserError, Transient, Refused.
    """
    if dataset.kind is not SourceKind.GS:
        raise HttpRefusal(404, "key: should be of a gs:// source. Stage it from its hub.")
    if after and not (after.isascii() and after.isdigit() and len(after) <= _LONGEST_PLACE):
        raise UserError("after: should be a place that a page named. Begin anew.")
    content = parts.blobs.open(listing_key(run.key.repository_id, dataset.key))
    if content is None:
        raise HttpRefusal(404, "listing: is not here. It was purged: start the run anew.")
    with content:
        page = read_page(content, int(after or 0), PAGE)

    signing = signer()

    def listed(found: ListedObject) -> ListedFile:
        url = signing.address(page.bucket, found, LIFE)
        if url is None:
            raise HttpRefusal(
                409,
                "gs://: should be signed for, found credentials that can sign nothing."
                " Let the server run as a service account.",
            )
        return ListedFile(
            path=found.path,
            size_bytes=found.size_bytes,
            url=url,
            md5=found.md5,
            crc32c=found.crc32c,
        )

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="listing") as pool:
        files = tuple(pool.map(listed, page.objects))
    return DataListing(files=files, after=None if page.after is None else str(page.after))
