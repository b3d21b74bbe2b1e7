"""Keep each repository's policy as it was last read, for when GitHub cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from cynthus.codec import decode, encode
from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.model import PolicySeen
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.publication_store import make_commit_due
from webhook_server.stores.tables import policies


@dataclass(frozen=True, kw_only=True)
class PolicyKept:
    """What was read, and whether a push has changed the file since."""

    seen: PolicySeen
    stale: bool


class PolicyStore:
    """Reads and writes the table `policies`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, repository_id: int) -> PolicyKept | None:
        """Return what was read last."""
        query = select(policies.c.doc, policies.c.read_at, policies.c.changed_at).where(
            policies.c.repository_id == repository_id
        )
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        # What was pushed while GitHub's answer was under way may not be in it.
        stale = row.changed_at is not None and row.changed_at >= row.read_at
        return PolicyKept(seen=decode(PolicySeen, row.doc), stale=stale)

    def keep(self, repository_id: int, seen: PolicySeen) -> None:
        """Remember what was read. An older reading does not replace a newer one. Repeatable."""
        values = {"doc": encode(seen), "read_at": seen.read_at}
        by = authority()

        def work(connection: Connection) -> None:
            query = select(policies.c.doc).where(policies.c.repository_id == repository_id)
            doc = connection.execute(query.with_for_update()).scalar_one_or_none()
            before = None if doc is None else decode(PolicySeen, doc)
            done = deeds.policy_read(repository_id, before, seen)
            if before is None or before.read_at <= seen.read_at:
                trail_store.add(connection, by, done, seen.read_at)
            if insert_once(connection, policies, {"repository_id": repository_id, **values}):
                return
            connection.execute(
                update(policies)
                .where(policies.c.repository_id == repository_id)
                .where(policies.c.read_at <= seen.read_at)
                .values(**values)
            )

        self._db.write(work)

    def pushed(
        self, repository_id: int, sha: str, now: datetime, *, touched: bool, counts: bool
    ) -> None:
        """Note that a commit may have another policy file. Safe to repeat.

        `touched`: it has, for certain. `counts`: it is on the default branch, so the next reader
        asks GitHub. The commit's check run becomes due in the same transaction, where it may be
        of another file than the one that counts.
        """
        by = authority()

        def work(connection: Connection) -> None:
            if counts:
                _mark_changed(connection, repository_id, now)
                trail_store.add(connection, by, [deeds.policy_void(repository_id, sha)], now)
            if touched or not counts:
                make_commit_due(connection, repository_id, sha, touched=touched, now=now)

        self._db.write(work)


def _mark_changed(connection: Connection, repository_id: int, now: datetime) -> None:
    connection.execute(
        update(policies).where(policies.c.repository_id == repository_id).values(changed_at=now)
    )
