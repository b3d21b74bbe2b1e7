"""Keep the paces of all replicas together, so that they write to GitHub as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, select, update

from cynthus.codec import decode, encode
from webhook_server.runs.github_pace import PaceState
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import paces

T = TypeVar("T")


class PaceStore:
    """Reads and writes the table `paces`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def change(self, installation_id: int, work: Callable[[PaceState], tuple[PaceState, T]]) -> T:
        """Change one installation's state; two replicas follow one another. `work` is pure."""

        def transaction(connection: Connection) -> T:
            before = _locked(connection, installation_id)
            after, said = work(before)
            if after != before:
                connection.execute(
                    update(paces)
                    .where(paces.c.installation_id == installation_id)
                    .values(doc=encode(after))
                )
            return said

        return self._db.write(transaction)

    def state(self, installation_id: int) -> PaceState:
        """Return one installation's state."""
        query = select(paces.c.doc).where(paces.c.installation_id == installation_id)
        with self._db.read() as connection:
            doc = connection.execute(query).scalar_one_or_none()
        return PaceState() if doc is None else decode(PaceState, doc)


def _locked(connection: Connection, installation_id: int) -> PaceState:
    row = {"installation_id": installation_id, "doc": encode(PaceState())}
    insert_once(connection, paces, row)
    query = select(paces.c.doc).where(paces.c.installation_id == installation_id)
    return decode(PaceState, connection.execute(query.with_for_update()).scalar_one())
