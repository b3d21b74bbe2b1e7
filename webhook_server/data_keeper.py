"""Keep the cache of data within its limits, or remove all that a repository has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cynthus.errors import Refused, Transient
from webhook_server.metrics import (
    DATA_BYTES,
    DATA_BYTES_DELETED,
    DATA_EVICTED,
    METERS,
)
from webhook_server.runs.data_cache import CacheLimits, KeptTree, Scope, evictions
from webhook_server.settings import Settings
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.data_store import DataStore
from webhook_server.stores.database import Database

log = logging.getLogger(__name__)

_DAY = timedelta(days=1)
EVERY_S = 3600.0  # limits are of days and of many gigabytes
_AGAIN_S = 300.0  # the store did not answer
#: Between an agent's question what is missing, and its commit: a transfer may take as long.
GRACE = timedelta(days=1)
#: A purge's step: a request answers within this, and says whether there is more.
STEP_S = 5.0
_PAGE = 500  # digests a question to the database
_RUN_ID = 12  # letters and digits of a run's id: `ck` and one is a folder of checkpoints


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What a pass gave up."""

    trees: tuple[KeptTree, ...] = ()
    blobs: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What a step of a purge removed, by kind; `more`: ask again."""

    blobs: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    more: bool = False


def open_keeper(
    settings: Settings, database: Database, blobs: BlobStore, now: Callable[[], datetime]
) -> DataKeeper:
    """Return the keeper with the limits of the settings."""
    days = settings.data_cache_days
    limits = CacheLimits(
        tenant_bytes=settings.data_cache_bytes, unused=timedelta(days=days) if days else None
    )
    return DataKeeper(DataStore(database), blobs, limits, now)


class DataKeeper:
    """Evicts by size and age, sweeps what belongs to no tree, purges; safe to repeat, all of it."""

    def __init__(
        self,
        store: DataStore,
        blobs: BlobStore,
        limits: CacheLimits,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._blobs, self._limits, self._now = store, blobs, limits, now
        self._strays_at: datetime | None = None  # listing a large bucket is paid for

    def step(self) -> float:
        """Do one pass; return in how many seconds the next one is due."""
        try:
            done = self.collect()
            if self._strays_at is None or self._strays_at <= self._now() - _DAY:
                self._strays_at = self._now()
                self.sweep_strays()
        except (Transient, Refused, OSError) as error:
            log.warning("cached data not swept, again in a while detail=%s", error)
            return _AGAIN_S
        if done.trees or done.blobs:
            log.info(
                "cached data swept trees=%d blobs=%d bytes=%d",
                len(done.trees),
                done.blobs,
                done.size_bytes,
            )
        METERS.set(DATA_BYTES, sum(use.size_bytes for use in self._store.usage()))
        return EVERY_S

    def planned(self) -> tuple[KeptTree, ...]:
        """Return what a pass would give up now."""
        # Read first: a run that is accepted after it has its datasets' trees used later.
        live = self._store.live_keys()
        return evictions(self._store.trees(), live.keys(), self._limits, self._now())

    def collect(self) -> Collected:
        """Evict what is too old or too much, then delete blobs that no tree has had for a day.

        What an evicted tree alone had goes when its grace is over. Raises: Transient, Refused,
        OSError.
        """
        gone = tuple(tree for tree in self.planned() if self._store.evict(tree, self._now()))
        METERS.add(DATA_EVICTED, len(gone))
        blobs = size_bytes = 0
        while found := self._store.orphans(self._now() - GRACE):
            for scope, sha256, size in found:
                self._blobs.delete(scope.blob_key(sha256))
                self._store.dropped(scope, (sha256,))
                blobs, size_bytes = blobs + 1, size_bytes + size
        METERS.add(DATA_BYTES_DELETED, size_bytes)
        return Collected(trees=gone, blobs=blobs, size_bytes=size_bytes)

    def sweep_strays(self) -> int:
        """Delete bytes that no row knows: an agent put them and never had them confirmed."""
        removed = 0
        before = self._now() - GRACE
        for scope in self._store.scopes():
            page: list[str] = []
            for blob in self._blobs.stored(scope.prefix):
                if blob.stored_at < before:
                    page.append(blob.key.rpartition("/")[2])
                if len(page) == _PAGE:
                    removed += self._drop_unknown(scope, page)
                    page = []
            removed += self._drop_unknown(scope, page)
        return removed

    def _drop_unknown(self, scope: Scope, digests: list[str]) -> int:
        known = self._store.known(scope, digests)
        strays = [sha256 for sha256 in digests if sha256 not in known]
        for sha256 in strays:
            self._blobs.delete(scope.blob_key(sha256))
        return len(strays)

    def purge(self, repository_id: int, clock: Callable[[], float]) -> Removed:
        """Delete bytes of a repository for some seconds; `more` until nothing is left.

        Its cached data, listings, checkpoints and outputs. What it shares with its owner's others
        stays: it is theirs as well. Raises: Transient, Refused, OSError.
        """
        self._store.forget(str(repository_id))
        until = clock() + STEP_S
        blobs: dict[str, int] = {}
        size_bytes, more = 0, False
        for blob in self._blobs.stored(f"{repository_id}/"):
            if clock() >= until:
                more = True
                break
            kind = _kind(blob.key.split("/")[1])
            if kind is None:
                continue
            self._blobs.delete(blob.key)
            blobs[kind] = blobs.get(kind, 0) + 1
            size_bytes += blob.size_bytes
        return Removed(blobs=blobs, size_bytes=size_bytes, more=more)


def _kind(word: str) -> str | None:
    """Return what blobs of this part of a key are; None: no repository's own."""
    match word:
        case "data":
            return "cached data"
        case "ownerdata":
            return None  # of the owner that happens to have the repository's number
        case "listings" | "datatrees":
            return "listings"
        case _:
            return "checkpoints" if word.startswith("ck") and len(word) > _RUN_ID else "outputs"
