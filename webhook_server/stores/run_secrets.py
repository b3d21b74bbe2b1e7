"""Give a run its secrets: whoever asks again gets the versions of the first asking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.secret_protocol import SecretStore, SecretValue
from webhook_server.stores.tables import secret_versions


class RunSecrets:
    """Reads values from the store of secrets; keeps the versions, never a value, with the run."""

    def __init__(self, db: Database, store: SecretStore) -> None:
        self._db, self._store = db, store

    def values(
        self, run_id: str, repository_id: int, names: Iterable[str]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the values of `names`, with the names that this repository lacks.

        Raises: SecretUnreadable, Transient.
        """
        wanted = tuple(names)
        if not wanted:
            return {}, ()
        pinned = self._pinned(run_id)
        found = {n: self._store.get(repository_id, n, pinned.get(n, "")) for n in wanted}
        for name, version in self._pin(run_id, found, pinned).items():
            found[name] = self._store.get(repository_id, name, version)
        missing = tuple(name for name, value in found.items() if value is None)
        return {name: value.text for name, value in found.items() if value is not None}, missing

    def _pinned(self, run_id: str) -> dict[str, str]:
        with self._db.read() as connection:
            return _versions(connection, run_id)

    def _pin(
        self, run_id: str, found: Mapping[str, SecretValue | None], pinned: Mapping[str, str]
    ) -> dict[str, str]:
        """Keep what was found first; return what another asking has kept differently meanwhile."""
        fresh = {
            name: value.version
            for name, value in found.items()
            if value is not None and value.version and name not in pinned
        }
        if not fresh:
            return {}

        def work(connection: Connection) -> dict[str, str]:
            for name, version in fresh.items():
                row = {"run_id": run_id, "name": name, "version": version}
                insert_once(connection, secret_versions, row)
            return _versions(connection, run_id)

        kept = self._db.write(work)
        return {name: kept[name] for name, version in fresh.items() if kept[name] != version}


def _versions(connection: Connection, run_id: str) -> dict[str, str]:
    query = select(secret_versions.c.name, secret_versions.c.version).where(
        secret_versions.c.run_id == run_id
    )
    return {row.name: row.version for row in connection.execute(query)}
