"""Let agents share a dataset's bytes through the blob store: claim, bring, commit, fetch.

An agent speaks of its own run's datasets, by key; of which part of the cache they lie in, only
the server knows. It names digests, the server makes names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from fastapi import APIRouter, Depends, Request, Response

from cynthus.codec import encode
from cynthus.errors import Refused, Transient, UserError
from cynthus.repository_policy import CacheReach
from cynthus.tree_form import LIST_LIMIT_BYTES, is_digest, lines_of, read_files, read_head
from cynthus.wire import UploadGrant
from cynthus.wire_cache import (
    BLOB_BATCH,
    DATA_BATCH,
    DataAddress,
    DataAddresses,
    DataAsk,
    DataBlob,
    DataBlobsAsk,
    DataBlobsView,
    DataClaimView,
    DataCommit,
)
from cynthus.wire_data import Dataset
from webhook_server import metrics
from webhook_server.auth.blob_urls import GetTerms, PutTerms, get_url, put_url
from webhook_server.metrics import METERS
from webhook_server.routes.agent_api import UPLOAD_LIFE, attempt_of
from webhook_server.routes.agent_listing import listing_page
from webhook_server.routes.answers import HttpRefusal, read_words
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.heartbeats import agent_digest
from webhook_server.routes.parts import Parts
from webhook_server.runs.data_cache import Scope, dataset_of, scopes_of
from webhook_server.runs.model import Run
from webhook_server.stores.blob_protocol import Announced
from webhook_server.stores.data_leaving import DataLeaving
from webhook_server.stores.data_listing import ObjectSigner
from webhook_server.stores.data_store import DataStore, StoredTree, TreeTotals
from webhook_server.stores.instance_store import InstanceRow
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.repository_store import RepositoryStore

BODY_LIMIT_BYTES = 64 << 10  # 500 digests have 36 kB
ADDRESS_LIFE = timedelta(minutes=15)  # to begin: a transfer that has begun may take longer
#: One Cloud Storage request takes some 30 ms: a hundred in a row would be 3 s of a door's thread.
_PARALLEL = 8
_FILES_A_ROW = 500  # rows a statement: SQLite takes at most 32,766 values, of four each
_FILE_NAME = "data"  # of a download; nothing of the user's stands in an address

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class _Asking:
    """Who asks, about which dataset of its own run."""

    row: InstanceRow
    run: Run
    dataset: Dataset
    scopes: tuple[Scope, ...]  # the first is written, all are read

    @property
    def own(self) -> Scope:
        return self.scopes[0]


def data_router(parts: Parts, signer: Callable[[], ObjectSigner]) -> APIRouter:
    """Return the doors; `signer` opens what signs addresses of users' own buckets, when asked."""
    router = APIRouter(tags=["agents"], prefix="/agent/v1/data")
    body = Depends(limited_body(BODY_LIMIT_BYTES))
    cache = _Cache(parts)

    def open_attempt(request: Request) -> InstanceRow:
        return attempt_of(parts, agent_digest(request.scope))

    first = Depends(open_attempt)

    @router.post("/claim")
    def claim(row: InstanceRow = first, content: bytes = body) -> Response:
        """Say who has the bytes; lend the right to bring them. Repeating it renews the lease."""
        ask = read_words(DataAsk, content)
        return _answer(lambda: cache.claim(_asking(parts, row, ask.key), own=ask.own))

    @router.post("/blobs")
    def blobs(row: InstanceRow = first, content: bytes = body) -> Response:
        """Say what is missing, and where it may be put. Safe to repeat."""
        ask = read_words(DataBlobsAsk, content)
        return _answer(lambda: cache.grants(_asking(parts, row, ask.key), ask.blobs))

    @router.post("/commit")
    def commit(row: InstanceRow = first, content: bytes = body) -> Response:
        """Make a tree ready whose files are all stored. Safe to repeat."""
        ask = read_words(DataCommit, content)
        return _answer(lambda: cache.commit(_asking(parts, row, ask.key), ask.tree))

    @router.post("/addresses")
    def addresses(row: InstanceRow = first, content: bytes = body) -> Response:
        """Return where files of a ready tree may be fetched."""
        ask = read_words(DataAsk, content)
        return _answer(lambda: cache.addresses(_asking(parts, row, ask.key), ask.sha256))

    @router.post("/listing")
    def listing(row: InstanceRow = first, content: bytes = body) -> Response:
        """Return a page of a `gs://` dataset's objects, with addresses."""
        ask = read_words(DataAsk, content)
        asking = _asking(parts, row, ask.key)
        return _answer(lambda: listing_page(parts, asking.run, asking.dataset, ask.after, signer))

    @router.post("/give-up")
    def give_up(row: InstanceRow = first, content: bytes = body) -> Response:
        """End the lease; have files brought anew that came damaged. Safe to repeat."""
        ask = read_words(DataAsk, content)
        return _answer(lambda: cache.give_up(_asking(parts, row, ask.key), ask.sha256))

    return router


def _answer(work: Callable[[], object]) -> Response:
    try:
        return json_answer(200, encode(work()))
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error
    except (Transient, Refused, OSError) as error:
        text = "storage: does not answer. Try again." if isinstance(error, OSError) else str(error)
        raise HttpRefusal(503, text, retry_after_s=5) from error


def _asking(parts: Parts, row: InstanceRow, key: str) -> _Asking:
    """Return whose dataset is meant. Raises: HttpRefusal (404) for any that is not its run's."""
    run = parts.runs.get(row.run_id)
    dataset = dataset_of(run, key) if run is not None else None
    scopes = scopes_of(run, _owner(parts, run)) if run is not None else ()
    if run is None or dataset is None or not scopes:
        raise HttpRefusal(404, "key: should be of this run's own data. Use what the work names.")
    return _Asking(row=row, run=run, dataset=dataset, scopes=scopes)


def _owner(parts: Parts, run: Run) -> int | None:
    """Return the owner with whose repositories the cache is shared, where the policy says so.

    Never by default, nor by a policy that has faults or is being read anew.
    """
    seen = PolicyStore(parts.database).get(run.key.repository_id).current
    if seen is None or seen.faults or seen.policy.data.cache is not CacheReach.OWNER:
        return None
    known = RepositoryStore(parts.database).get(run.key.repository_id)
    return known.owner_id if known is not None else None


class _Cache:
    """What the doors do."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = DataStore(parts.database)
        self._leaving = DataLeaving(parts.database)

    def claim(self, asking: _Asking, *, own: bool) -> DataClaimView:
        scopes = asking.scopes[:1] if own else asking.scopes
        now = self._parts.now()
        found = self._store.claim(scopes, asking.dataset, asking.row.name, now)
        METERS.add(metrics.DATA_CLAIMS, standing=found.standing.value)
        tree = None if found.tree is None else self._list_address(found.tree)
        return DataClaimView(standing=found.standing, wait_s=found.wait_s, tree=tree)

    def _list_address(self, tree: StoredTree) -> DataAddress:
        return self._address(tree.scope, tree.sha256, tree.size_bytes)

    # ── bringing ────────────────────────────────────────────────────────────────────────────────

    def grants(self, asking: _Asking, blobs: tuple[DataBlob, ...]) -> DataBlobsView:
        if len(blobs) > BLOB_BATCH:
            raise UserError(f"blobs: should be at most {BLOB_BATCH} at once. Ask in parts.")
        for blob in blobs:
            _check(blob)
        self._check_lease(asking)
        known, leaving = self._store.stored(
            asking.own, {blob.sha256 for blob in blobs}, self._parts.now()
        )
        if leaving:
            raise Transient("blobs: some are just being deleted. Ask again in a moment.")
        missing = [blob for blob in blobs if known.get(blob.sha256) != blob.size_bytes]
        granted = dict(zip(missing, self._together(self._grant(asking), missing), strict=True))
        proven = {blob.sha256: blob.size_bytes for blob in missing if granted[blob].url is None}
        self._store.keep(asking.own, proven, self._parts.now())
        here = UploadGrant(url=None, expires_at=self._parts.now() + UPLOAD_LIFE)
        return DataBlobsView(grants=tuple(granted.get(blob, here) for blob in blobs))

    def _grant(self, asking: _Asking) -> Callable[[DataBlob], UploadGrant]:
        parts, expires_at = self._parts, self._parts.now() + UPLOAD_LIFE

        def grant(wanted: DataBlob) -> UploadGrant:
            key = asking.own.blob_key(wanted.sha256)
            blob = Announced(size_bytes=wanted.size_bytes, sha256=wanted.sha256, md5=wanted.md5)
            if parts.blobs.proven(key, blob):
                return UploadGrant(url=None, expires_at=expires_at)
            direct = parts.blobs.direct_put(key, blob, UPLOAD_LIFE)
            if direct is None:
                terms = PutTerms(size_bytes=wanted.size_bytes, sha256=wanted.sha256)
                url = put_url(parts.base_url, parts.server_key, key, terms, expires_at)
                return UploadGrant(url=url, expires_at=expires_at)
            return UploadGrant(
                url=direct.url,
                expires_at=expires_at,
                headers=direct.headers,
                resumable=direct.resumable,
                confirm=True,
            )

        return grant

    def commit(self, asking: _Asking, listed: DataBlob) -> dict[str, object]:
        """Check the list against what is stored, a batch at a time, then make the tree ready."""
        _check(listed)
        own, key, now = asking.own, asking.dataset.key, self._parts.now()
        sizes = self._store.sizes(own, {listed.sha256})
        if sizes.get(listed.sha256) != listed.size_bytes or listed.size_bytes > LIST_LIMIT_BYTES:
            raise UserError("tree: should be stored, and be a list. Bring it first.")
        content = self._parts.blobs.open(own.blob_key(listed.sha256))
        if content is None:
            raise Transient("tree: is not here any more. Bring it again.")
        with content:
            lines = lines_of(content)
            head = read_head(lines)
            if (head.key, head.revision) != (key, asking.dataset.revision):
                raise UserError("tree: should be of this key and revision. Bring that one.")
            for batch in _batches(read_files(lines, head), _FILES_A_ROW):
                wanted = {file.sha256: file.size_bytes for file in batch}
                if self._store.sizes(own, wanted) != wanted:
                    raise UserError("tree: names files that are not stored. Bring them first.")
                self._store.add_files(own, key, wanted)
        totals = TreeTotals(
            files=head.files,
            size_bytes=head.size_bytes,
            sha256=listed.sha256,
            list_bytes=listed.size_bytes,
        )
        if not self._store.commit(own, key, asking.row.name, totals, now):
            raise _lost()
        METERS.add(metrics.DATA_KEPT)
        return {}

    def _check_lease(self, asking: _Asking) -> None:
        now = self._parts.now()
        if not self._store.holds(asking.own, asking.dataset.key, asking.row.name, now):
            raise _lost()

    # ── fetching ────────────────────────────────────────────────────────────────────────────────

    def addresses(self, asking: _Asking, digests: tuple[str, ...]) -> DataAddresses:
        _check_digests(digests)
        found: dict[str, tuple[Scope, int]] = {}
        for scope in asking.scopes:
            missing = [sha256 for sha256 in digests if sha256 not in found]
            sizes = self._store.of_tree(scope, asking.dataset.key, missing)
            found |= {sha256: (scope, size) for sha256, size in sizes.items()}
        wanted = list(found.items())
        signed = self._together(lambda one: self._address(one[1][0], one[0], one[1][1]), wanted)
        return DataAddresses(addresses=tuple(signed))

    def _address(self, scope: Scope, sha256: str, size_bytes: int) -> DataAddress:
        parts, key = self._parts, scope.blob_key(sha256)
        expires_at = parts.now() + ADDRESS_LIFE
        disposition = f'attachment; filename="{_FILE_NAME}"'
        url = parts.blobs.direct_url(key, disposition, ADDRESS_LIFE) or get_url(
            parts.base_url, parts.server_key, key, GetTerms(file_name=_FILE_NAME), expires_at
        )
        return DataAddress(sha256=sha256, size_bytes=size_bytes, url=url, expires_at=expires_at)

    def give_up(self, asking: _Asking, damaged: tuple[str, ...]) -> dict[str, object]:
        """Only what this run's own part has is brought anew: who reads alone changes nothing."""
        _check_digests(damaged)
        own, key = asking.own, asking.dataset.key
        self._store.give_up(own, key, asking.row.name)
        leaving = self._store.damaged(own, key, damaged) if damaged else ()
        for sha256 in leaving:
            self._parts.blobs.delete(own.blob_key(sha256))
        self._leaving.dropped(own, leaving)
        return {}

    def _together(self, ask: Callable[[T], R], wanted: list[T]) -> list[R]:
        if len(wanted) < 2:  # noqa: PLR2004 - nothing to do beside it
            return [ask(one) for one in wanted]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="data") as pool:
            return list(pool.map(ask, wanted))


def _lost() -> HttpRefusal:
    return HttpRefusal(409, "lease: is not this instance's now. Claim the key again.")


def _check(blob: DataBlob) -> None:
    if not is_digest(blob.sha256) or blob.size_bytes < 0:
        raise UserError("blob: should have a size and a SHA-256 of 64 hex digits. Hash it.")
    if blob.md5 is not None and not (len(blob.md5) == 32 and _is_hex(blob.md5)):  # noqa: PLR2004 - MD5's
        raise UserError("md5: should be 32 hex digits. Send the blob's MD5.")


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _check_digests(digests: tuple[str, ...]) -> None:
    if len(digests) > DATA_BATCH or not all(is_digest(text) for text in digests):
        raise UserError(
            f"sha256: should be at most {DATA_BATCH} SHA-256 of 64 hex digits. Ask in parts."
        )


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
