"""Keep what of users' data the blob store has, and who brings what is missing: one at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    or_,
    select,
    update,
)

from cynthus.wire_cache import Standing
from cynthus.wire_data import Dataset
from webhook_server.runs.data_cache import KeptTree, Scope, scope_of
from webhook_server.stores.data_rows import is_tree, of, within
from webhook_server.stores.database import (
    Database,
    insert_once,
    insert_rows,
    lease_clock,
    lease_end,
)
from webhook_server.stores.tables import data_blobs, data_tree_blobs, data_trees, is_set, runs

# The holder asks again every 20 s: two calls may be lost. Who waits for one that died loses a
# minute of a transfer that mostly takes longer.
LEASE = timedelta(seconds=60)
#: Who waits asks again this often at most: what it waits for is mostly there in the middle.
ASK_AGAIN_S = 5.0
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_READY, _FETCHING = "ready", "fetching"
_LIVE_PAGE = 1000  # rows a read: ten thousand live runs are ten short ones


@dataclass(frozen=True, kw_only=True)
class StoredTree:
    """The list of a ready tree's files, and in which scope they lie."""

    scope: Scope
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What an instance may do for a key."""

    standing: Standing
    wait_s: float
    tree: StoredTree | None = None


@dataclass(frozen=True, kw_only=True)
class TreeTotals:
    """What a committed tree consists of."""

    files: int
    size_bytes: int
    sha256: str  # of the list of its files
    list_bytes: int


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """How much lies in one tenant's cache."""

    tenant: str
    blobs: int
    size_bytes: int


class DataStore:
    """Reads and writes `data_trees`, `data_blobs`, `data_tree_blobs`, which all replicas share."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # ── one brings it, the others wait ──────────────────────────────────────────────────────────

    def claim(
        self, scopes: Sequence[Scope], dataset: Dataset, holder: str, now: datetime
    ) -> Claimed:
        """Say who has the key's bytes; lend the lease of the first scope where nobody has.

        Safe to repeat: the holder prolongs its lease. By the database's clock where replicas
        share one.
        """

        def work(connection: Connection) -> Claimed:
            for scope in scopes:
                found = _ready(connection, scope, dataset.key)
                if found is not None:
                    _touch(connection, scope, dataset.key, now)
                    return Claimed(standing=Standing.READY, wait_s=0.0, tree=found)
            return _lend(connection, scopes[0], dataset, holder, now)

        return self._db.write_at_door(work)

    def holds(self, scope: Scope, key: str, holder: str, now: datetime) -> bool:
        """Return whether the instance may bring bytes for this key now."""
        with self._db.read() as connection:
            held = and_(is_tree(scope, key), *_holding(connection, holder, now))
            return connection.execute(select(data_trees.c.key).where(held)).first() is not None

    def give_up(self, scope: Scope, key: str, holder: str) -> None:
        """End the holder's lease; another's stays. Safe to repeat."""
        mine = and_(is_tree(scope, key), data_trees.c.holder == holder)
        ended = update(data_trees).where(mine).values(holder="", until=_NEVER)
        self._db.write_at_door(lambda connection: connection.execute(ended).rowcount)

    # ── bytes ───────────────────────────────────────────────────────────────────────────────────

    def stored(
        self, scope: Scope, digests: Collection[str], now: datetime
    ) -> tuple[Mapping[str, int], frozenset[str]]:
        """Return sizes of those that are stored, and which are just being deleted.

        They stay for the grace of a sweep from now on, though no tree has them yet.
        """

        def work(connection: Connection) -> tuple[Mapping[str, int], frozenset[str]]:
            mine = and_(within(data_blobs, scope), data_blobs.c.sha256.in_(digests))
            staying = and_(mine, data_blobs.c.leaving.is_(False))
            connection.execute(update(data_blobs).where(staying).values(used_at=now))
            rows = connection.execute(select(data_blobs).where(mine)).all()
            sizes = {row.sha256: row.bytes for row in rows if not row.leaving}
            return sizes, frozenset(row.sha256 for row in rows if row.leaving)

        return self._db.write_at_door(work)

    def keep(self, scope: Scope, sizes: Mapping[str, int], now: datetime) -> None:
        """Note blobs that are proven to be stored. Safe to repeat."""
        rows = [
            {**of(scope), "sha256": sha256, "bytes": size, "used_at": now, "leaving": False}
            for sha256, size in sizes.items()
        ]
        if rows:
            self._db.write_at_door(lambda connection: insert_rows(connection, data_blobs, rows))

    def sizes(self, scope: Scope, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those that are stored and stay."""
        query = select(data_blobs.c.sha256, data_blobs.c.bytes).where(
            within(data_blobs, scope),
            data_blobs.c.sha256.in_(digests),
            data_blobs.c.leaving.is_(False),
        )
        with self._db.read() as connection:
            return {row.sha256: row.bytes for row in connection.execute(query)}

    def known(self, scope: Scope, digests: Collection[str]) -> frozenset[str]:
        """Return those that have a row, whatever becomes of them."""
        mine = and_(within(data_blobs, scope), data_blobs.c.sha256.in_(digests))
        with self._db.read() as connection:
            return frozenset(connection.execute(select(data_blobs.c.sha256).where(mine)).scalars())

    def of_tree(self, scope: Scope, key: str, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those that belong to this ready tree."""
        ours = and_(
            within(data_tree_blobs, scope),
            data_tree_blobs.c.key == key,
            data_tree_blobs.c.sha256 == data_blobs.c.sha256,
        )
        query = select(data_blobs.c.sha256, data_blobs.c.bytes).where(
            within(data_blobs, scope),
            data_blobs.c.sha256.in_(digests),
            data_blobs.c.leaving.is_(False),
            exists().where(ours),
        )
        with self._db.read() as connection:
            return {row.sha256: row.bytes for row in connection.execute(query)}

    # ── trees ───────────────────────────────────────────────────────────────────────────────────

    def add_files(self, scope: Scope, key: str, digests: Iterable[str]) -> None:
        """Note that the tree consists of these as well: no sweep takes them. Safe to repeat."""
        rows = [{**of(scope), "sha256": sha256, "key": key} for sha256 in set(digests)]
        if rows:
            self._db.write_at_door(
                lambda connection: insert_rows(connection, data_tree_blobs, rows)
            )

    def commit(
        self, scope: Scope, key: str, holder: str, totals: TreeTotals, now: datetime
    ) -> bool:
        """Make the tree ready, for who still holds its lease; return whether it is. Repeatable."""

        def work(connection: Connection) -> bool:
            same = and_(data_trees.c.state == _READY, data_trees.c.tree_sha256 == totals.sha256)
            found = connection.execute(
                update(data_trees)
                .where(
                    is_tree(scope, key),
                    or_(same, and_(*_holding(connection, holder, now))),
                )
                .values(
                    state=_READY,
                    files=totals.files,
                    bytes=totals.size_bytes,
                    tree_sha256=totals.sha256,
                    tree_bytes=totals.list_bytes,
                    holder="",
                    until=_NEVER,
                    used_at=now,
                )
            )
            return found.rowcount == 1

        return self._db.write_at_door(work)

    def damaged(self, scope: Scope, key: str, digests: Collection[str]) -> tuple[str, ...]:
        """Make a tree whose files came damaged be brought anew; return which of its blobs leave.

        Who calls it deletes their bytes and tells `dropped`. Safe to repeat.
        """

        def work(connection: Connection) -> tuple[str, ...]:
            mine = is_tree(scope, key)
            listed = connection.execute(select(data_trees.c.tree_sha256).where(mine)).scalar()
            ours = {*digests} & {*_files(connection, scope, key, digests), listed or ""}
            if not ours:
                return ()
            # Other trees have these bytes too: without them none of those is whole.
            theirs = select(data_tree_blobs.c.key).where(
                within(data_tree_blobs, scope), data_tree_blobs.c.sha256.in_(ours)
            )
            broken = and_(
                within(data_trees, scope),
                or_(data_trees.c.key == key, data_trees.c.key.in_(theirs)),
                or_(data_trees.c.key == key, data_trees.c.state == _READY),
            )
            connection.execute(
                update(data_trees).where(broken).values(state=_FETCHING, holder="", until=_NEVER)
            )
            those = and_(within(data_blobs, scope), data_blobs.c.sha256.in_(ours))
            connection.execute(update(data_blobs).where(those).values(leaving=True))
            return tuple(sorted(ours))

        return self._db.write_at_door(work)

    def trees(self, tenant: str | None = None) -> tuple[KeptTree, ...]:
        """Return all trees, or a tenant's, the last used first."""
        query = select(data_trees).order_by(data_trees.c.used_at.desc(), data_trees.c.key)
        if tenant is not None:
            query = query.where(data_trees.c.tenant == tenant)
        with self._db.read() as connection:
            return tuple(_tree(row) for row in connection.execute(query))

    def usage(self) -> tuple[CacheUse, ...]:
        """Return how much lies in each tenant's cache."""
        query = (
            select(
                data_blobs.c.tenant,
                func.count().label("blobs"),
                func.coalesce(func.sum(data_blobs.c.bytes), 0).label("bytes"),
            )
            .group_by(data_blobs.c.tenant)
            .order_by(data_blobs.c.tenant)
        )
        with self._db.read() as connection:
            return tuple(
                CacheUse(tenant=row.tenant, blobs=row.blobs, size_bytes=int(row.bytes))
                for row in connection.execute(query)
            )

    def scopes(self) -> tuple[Scope, ...]:
        """Return every part of a cache in which there is, or was lately, something."""
        trees = select(data_trees.c.tenant, data_trees.c.part)
        blobs = select(data_blobs.c.tenant, data_blobs.c.part)
        with self._db.read() as connection:
            rows = connection.execute(trees.union(blobs)).all()
        return tuple(scope_of(row.tenant, row.part) for row in sorted(rows))

    def live_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the key of every dataset of a live run, with the runs that use it."""
        found: dict[str, list[str]] = {}
        last = ""
        while page := self._live_page(last):
            for run_id, datasets in page:
                for one in datasets or ():
                    found.setdefault(one["key"], []).append(run_id)
            last = page[-1][0]
        return {key: tuple(ids) for key, ids in found.items()}

    def _live_page(self, last: str) -> Sequence[tuple[str, Any]]:
        # Only live runs have a deadline, and that has an index.
        query = (
            select(runs.c.id, runs.c.doc["datasets"])
            .where(is_set(runs.c.look_again_at), runs.c.id > last)
            .order_by(runs.c.id)
            .limit(_LIVE_PAGE)
        )
        with self._db.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]


def _holding(
    connection: Connection, holder: str, now: datetime
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return data_trees.c.holder == holder, data_trees.c.until >= lease_clock(connection, now)


def _ready(connection: Connection, scope: Scope, key: str) -> StoredTree | None:
    query = select(data_trees).where(is_tree(scope, key), data_trees.c.state == _READY)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return StoredTree(scope=scope, sha256=row.tree_sha256, size_bytes=row.tree_bytes)


def _touch(connection: Connection, scope: Scope, key: str, now: datetime) -> None:
    connection.execute(update(data_trees).where(is_tree(scope, key)).values(used_at=now))


def _lend(
    connection: Connection, scope: Scope, dataset: Dataset, holder: str, now: datetime
) -> Claimed:
    nobody = {
        **of(scope),
        "key": dataset.key,
        "source": dataset.source,
        "revision": dataset.revision,
        "files": 0,
        "bytes": 0,
        "state": _FETCHING,
        "holder": "",
        "until": _NEVER,
        "created_at": now,
        "used_at": now,
    }
    insert_once(connection, data_trees, nobody)
    free = data_trees.c.until < lease_clock(connection, now)
    granted = connection.execute(
        update(data_trees)
        .where(
            is_tree(scope, dataset.key),
            data_trees.c.state == _FETCHING,
            or_(free, data_trees.c.holder == holder),
        )
        .values(holder=holder, until=lease_end(connection, now, LEASE), used_at=now)
    ).rowcount
    if granted == 1:
        return Claimed(standing=Standing.FETCH, wait_s=LEASE.total_seconds())
    return Claimed(standing=Standing.WAIT, wait_s=ASK_AGAIN_S)


def _files(
    connection: Connection, scope: Scope, key: str, digests: Collection[str]
) -> Sequence[str]:
    query = select(data_tree_blobs.c.sha256).where(
        within(data_tree_blobs, scope),
        data_tree_blobs.c.key == key,
        data_tree_blobs.c.sha256.in_(digests),
    )
    return connection.execute(query).scalars().all()


def _tree(row: Any) -> KeptTree:
    return KeptTree(
        scope=scope_of(row.tenant, row.part),
        key=row.key,
        source=row.source,
        revision=row.revision,
        files=row.files,
        size_bytes=row.bytes,
        ready=row.state == _READY,
        created_at=row.created_at,
        used_at=row.used_at,
        leased_until=row.until,
    )
