"""Forget cached data that nobody uses any more: rows first marked, then bytes, then rows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, and_, delete, exists, or_, select, update

from webhook_server.runs.data_cache import KeptTree, Scope, scope_of
from webhook_server.stores.data_rows import is_blob, is_tree, within
from webhook_server.stores.database import Database, lease_clock
from webhook_server.stores.tables import data_blobs, data_tree_blobs, data_trees

_GONE_AT_ONCE = 500  # rows a transaction: others write meanwhile


class DataLeaving:
    """Deletes from the tables that `DataStore` fills; safe to repeat, all of it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def evict(self, tree: KeptTree, now: datetime) -> bool:
        """Forget a tree, unless somebody came for it since it was read; its blobs stay a while."""

        def work(connection: Connection) -> bool:
            unused = and_(
                is_tree(tree.scope, tree.key),
                data_trees.c.used_at == tree.used_at,
                data_trees.c.until < lease_clock(connection, now),
            )
            if connection.execute(delete(data_trees).where(unused)).rowcount == 0:
                return False
            connection.execute(
                delete(data_tree_blobs).where(
                    within(data_tree_blobs, tree.scope), data_tree_blobs.c.key == tree.key
                )
            )
            return True

        return self._db.write(work)

    def orphans(self, before: datetime) -> list[tuple[Scope, str, int]]:
        """Mark blobs of no tree, unused since `before`, as leaving; return some that leave.

        Their bytes are to be deleted, then `dropped` is told; what a crash left is told again.
        """

        def work(connection: Connection) -> list[tuple[Scope, str, int]]:
            blob = data_blobs.c
            of_a_tree = exists().where(
                data_tree_blobs.c.tenant == blob.tenant,
                data_tree_blobs.c.part == blob.part,
                data_tree_blobs.c.sha256 == blob.sha256,
            )
            lists_one = exists().where(
                data_trees.c.tenant == blob.tenant,
                data_trees.c.part == blob.part,
                data_trees.c.tree_sha256 == blob.sha256,
            )
            free = and_(blob.used_at < before, ~of_a_tree, ~lists_one)
            query = (
                select(blob.tenant, blob.part, blob.sha256, blob.bytes)
                .where(or_(blob.leaving.is_(True), free))
                .limit(_GONE_AT_ONCE)
            )
            found = [
                (scope_of(row.tenant, row.part), row.sha256, row.bytes)
                for row in connection.execute(query)
            ]
            for scope, sha256, _ in found:
                connection.execute(
                    update(data_blobs).where(is_blob(scope, sha256)).values(leaving=True)
                )
            return found

        return self._db.write(work)

    def dropped(self, scope: Scope, digests: Collection[str]) -> None:
        """Forget blobs whose bytes were deleted. Safe to repeat."""
        gone = and_(
            within(data_blobs, scope),
            data_blobs.c.sha256.in_(digests),
            data_blobs.c.leaving.is_(True),
        )
        self._db.write(lambda connection: connection.execute(delete(data_blobs).where(gone)))

    def forget(self, tenant: str) -> None:
        """Forget all that a tenant had; the bytes are deleted by who calls it. Safe to repeat."""

        def work(connection: Connection) -> None:
            for table in (data_trees, data_tree_blobs, data_blobs):
                connection.execute(delete(table).where(table.c.tenant == tenant))

        self._db.write(work)
