"""Keep what happened at each pull request, and let what is shown of it be looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, select, update

from cynthus.codec import decode, encode
from webhook_server.runs.pull import Pull
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.publication_store import PublicationKind, make_pull_due
from webhook_server.stores.tables import pulls


class PullStore:
    """Reads and writes the table `pulls`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, repository_id: int, number: int) -> Pull | None:
        """Return what is known of the pull request."""
        query = select(pulls.c.doc).where(
            pulls.c.repository_id == repository_id, pulls.c.number == number
        )
        with self._db.read() as connection:
            doc = connection.execute(query).scalar_one_or_none()
        return None if doc is None else decode(Pull, doc)

    def open_of(self, repository_id: int, limit: int) -> list[Pull]:
        """Return a repository's pull requests that are open as far as we know, newest first."""
        query = (
            select(pulls.c.doc)
            .where(pulls.c.repository_id == repository_id, pulls.c.doc["open"].as_boolean())
            .order_by(pulls.c.number.desc())
            .limit(limit)
        )
        with self._db.read() as connection:
            return [decode(Pull, doc) for doc in connection.execute(query).scalars()]

    def change(
        self,
        new: Pull,
        change: Callable[[Pull], Pull],
        now: datetime,
        shown: tuple[PublicationKind, ...] = (),
    ) -> Pull:
        """Change what is known, or begin with `new`; what is `shown` of it becomes due.

        One transaction: two changes at the same time follow one another. `change` is pure; where
        it returns an equal value nothing is written and nothing becomes due.
        """

        def work(connection: Connection) -> Pull:
            before = _locked(connection, new, now)
            after = change(before)
            if after == before:
                return before
            connection.execute(
                update(pulls).where(_is(new)).values(doc=encode(after), changed_at=now)
            )
            for kind in shown:
                make_pull_due(connection, after.repository_id, after.number, kind, now)
            return after

        return self._db.write(work)


def _is(pull: Pull) -> ColumnElement[bool]:
    return and_(pulls.c.repository_id == pull.repository_id, pulls.c.number == pull.number)


def _locked(connection: Connection, new: Pull, now: datetime) -> Pull:
    """Return the row as nobody else changes it until the transaction ends."""
    row = {
        "repository_id": new.repository_id,
        "number": new.number,
        "doc": encode(new),
        "changed_at": now,
    }
    insert_once(connection, pulls, row)
    doc = connection.execute(select(pulls.c.doc).where(_is(new)).with_for_update()).scalar_one()
    return decode(Pull, doc)
