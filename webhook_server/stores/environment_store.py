"""Keep what images consist of, with which images are still to be pulled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, and_, func, or_, select

from cynthus.wire_image import Environment, LockView
from webhook_server.runs.model import EnvironmentKept
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.publication_store import PublicationKind, PublicationState
from webhook_server.stores.tables import environments, publications, runs


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The files of an environment, exactly as they were sent."""

    lock: str | None = None
    sbom: str | None = None


class EnvironmentStore:
    """Reads the table `environments` beside `runs`; `keep` writes it with the run that tells."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def texts(self, environment_id: str) -> Texts:
        """Return the files; nothing for an id that is not known."""
        query = select(environments.c.lock, environments.c.sbom).where(
            environments.c.id == environment_id
        )
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return Texts() if row is None else Texts(lock=row.lock, sbom=row.sbom)

    def lock(self, repository_id: int, commit_sha: str, spec_path: str) -> LockView | None:
        """Return what the newest run of this commit and spec was built with.

        A fork's counts for nobody: its packages were looked for without the repository's own
        indexes, where anybody may have put one under the name of a private one.
        """
        query = (
            select(environments.c.key, environments.c.lock)
            .join(runs, runs.c.environment_id == environments.c.id)
            .where(
                runs.c.repository_id == repository_id,
                runs.c.commit_sha == commit_sha,
                runs.c.spec_path == spec_path,
                environments.c.lock.is_not(None),
                runs.c.doc[("origin", "fork")].as_boolean().is_not(True),
            )
            .order_by(runs.c.seq.desc())
            .limit(1)
        )
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else LockView(key=row.key, lock=row.lock)

    def images_in_use(self, repository_id: int, limit: int) -> tuple[str, ...]:
        """Return the images of a repository's runs that are not finished or have a release.

        At most `limit`, newest first, each once.
        """
        query = (
            _standing(runs.c.image)
            .where(runs.c.repository_id == repository_id, runs.c.image.is_not(None))
            .limit(limit)
        )
        with self._db.read() as connection:
            return tuple(connection.execute(query).scalars())

    def keys_in_use(self, owner_id: int, limit: int) -> tuple[str, ...]:
        """Return the environments of all such runs of an owner, whose repositories share them."""
        query = (
            _standing(environments.c.key)
            .join(environments, environments.c.id == runs.c.environment_id)
            .where(environments.c.owner_id == owner_id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return tuple(connection.execute(query).scalars())


def _standing(what: Column[str]) -> Select[Any]:
    """Return the query for something of every run that may still be pulled.

    A release that GitHub refused is none; one that is only begun counts.
    """
    return (
        select(what)
        .select_from(runs)
        .outerjoin(
            publications,
            and_(
                publications.c.subject == runs.c.id,
                publications.c.kind == PublicationKind.RELEASE.value,
                publications.c.state != PublicationState.REFUSED.value,
            ),
        )
        .where(or_(runs.c.finished_at.is_(None), publications.c.subject.is_not(None)))
        .group_by(what)
        .order_by(func.max(runs.c.seq).desc())
    )


def keep(
    connection: Connection, kept: EnvironmentKept, environment: Environment, now: datetime
) -> None:
    """Store an environment's files within a larger transaction. Safe to repeat."""
    row = {
        "id": kept.id,
        "owner_id": kept.owner_id,
        "key": environment.key,
        "lock": environment.lock,
        "sbom": environment.sbom,
        "stored_at": now,
    }
    insert_once(connection, environments, row)
