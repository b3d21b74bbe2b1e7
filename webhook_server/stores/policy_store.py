"""Keep each repository's policy as it was last read, for when GitHub cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from cynthus.codec import decode, encode
from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.observations import PolicySeen
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.publication_store import make_commit_due
from webhook_server.stores.tables import policies


@dataclass(frozen=True, kw_only=True)
class PolicyKept:
    """What was read last, and how many pushes may have changed the file: before that, and in all.

    Counted, not timed: the clocks of two replicas differ, and one that waits for GitHub may pause.
    """

    seen: PolicySeen | None = None  # None: it was never read
    read_after: int = 0
    pushes: int = 0

    @property
    def current(self) -> PolicySeen | None:
        """Return what was read, unless a push may have changed the file since."""
        return self.seen if self.read_after >= self.pushes else None


class PolicyStore:
    """Reads and writes the table `policies`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, repository_id: int) -> PolicyKept:
        """Return what was read last, and how often it was pushed to."""
        with self._db.read() as connection:
            return _kept(connection.execute(_row(repository_id)).one_or_none())

    def keep(self, repository_id: int, seen: PolicySeen, *, after: int = 0) -> None:
        """Remember what was read. An older reading does not replace a newer one. Repeatable.

        `after`: how many pushes `get` told of before GitHub was asked; what was pushed while its
        answer was under way may not be in it.
        """
        by = authority()

        def work(connection: Connection) -> None:
            row = connection.execute(_row(repository_id).with_for_update()).one_or_none()
            if row is None:  # there is one from now on, whoever else may just put it there
                _push(connection, repository_id, 0)
                row = connection.execute(_row(repository_id).with_for_update()).one()
            kept = _kept(row)
            if kept.seen is not None and (kept.read_after, kept.seen.read_at) > (
                after,
                seen.read_at,
            ):
                return
            done = deeds.policy_read(repository_id, kept.seen, seen)
            trail_store.add(connection, by, done, seen.read_at)
            connection.execute(
                update(policies)
                .where(policies.c.repository_id == repository_id)
                .values(doc=encode(seen), read_after=after)
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
                _push(connection, repository_id, 1)
                trail_store.add(connection, by, [deeds.policy_void(repository_id, sha)], now)
            if touched or not counts:
                make_commit_due(connection, repository_id, sha, touched=touched, now=now)

        self._db.write(work)


def _row(repository_id: int) -> Select[Any]:
    return select(policies).where(policies.c.repository_id == repository_id)


def _kept(row: Row[Any] | None) -> PolicyKept:
    if row is None:
        return PolicyKept()
    seen = None if row.doc is None else decode(PolicySeen, row.doc)
    return PolicyKept(seen=seen, read_after=row.read_after, pushes=row.pushes)


def _push(connection: Connection, repository_id: int, count: int) -> None:
    """Count pushes, also where nothing was read yet: a first reading may be under way."""
    new = {"repository_id": repository_id, "doc": None, "pushes": count, "read_after": 0}
    more = (
        update(policies)
        .where(policies.c.repository_id == repository_id)
        .values(pushes=policies.c.pushes + count)
    )
    if connection.execute(more).rowcount == 0 and not insert_once(connection, policies, new):
        connection.execute(more)  # somebody else put it there meanwhile
