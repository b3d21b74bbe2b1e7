"""Remember the GitHub repositories we have heard of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import repositories


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One repository; the id is its identity, the names are for people."""

    id: int
    owner_id: int
    full_name: str
    default_branch: str
    installation_id: int | None  # None: look it up; 0: the app is not installed


class RepositoryStore:
    """Reads and writes the table `repositories`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def upsert(self, repository: Repository, now: datetime) -> None:
        """Remember the newest facts; an unknown installation keeps the known one. Repeatable."""
        values = asdict(repository) | {"seen_at": now}
        if repository.installation_id is None:
            values.pop("installation_id")

        def work(connection: Connection) -> None:
            if not insert_once(connection, repositories, values):
                connection.execute(
                    update(repositories).where(repositories.c.id == repository.id).values(**values)
                )

        self._db.write(work)

    def get(self, repository_id: int) -> Repository | None:
        """Return the repository."""
        query = select(repositories).where(repositories.c.id == repository_id)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _repository(row)

    def id_of(self, full_name: str) -> int | None:
        """Return the id of the repository that has this name at present, in any case of letters.

        For what people type: a name is no identity. Of several the one heard of last.
        """
        query = (
            select(repositories.c.id)
            .where(func.lower(repositories.c.full_name) == full_name.lower())
            .order_by(repositories.c.seen_at.desc())
            .limit(1)
        )
        with self._db.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def by_installation(self, installation_id: int) -> list[Repository]:
        """Return the repositories of one installation of the app."""
        query = (
            select(repositories)
            .where(repositories.c.installation_id == installation_id)
            .order_by(repositories.c.id)
        )
        with self._db.read() as connection:
            return [_repository(row) for row in connection.execute(query)]

    def forget_installation(self, installation_id: int) -> None:
        """Note that the app was removed from these repositories. Safe to repeat."""
        statement = (
            update(repositories)
            .where(repositories.c.installation_id == installation_id)
            .values(installation_id=0)
        )
        self._db.write(lambda connection: connection.execute(statement).rowcount)


def _repository(row: Row[Any]) -> Repository:
    return Repository(
        id=row.id,
        owner_id=row.owner_id,
        full_name=row.full_name,
        default_branch=row.default_branch,
        installation_id=row.installation_id,
    )
