"""Let replicas take turns: at giving out runs' numbers, at having live runs of a repository."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from webhook_server.runs.model import Run, State
from webhook_server.stores.tables import runs

# Any number that no other program uses: replicas give out numbers in turn.
_ORDER_LOCK = 0x6379_6E74_6875_7302

_WITH_INSTANCES = (State.PROVISIONING, State.RUNNING, State.COLLECTING, State.RELEASING)


def take_turn(connection: Connection) -> None:
    """Let one replica at a time look for the key and give out numbers; SQLite has one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_ORDER_LOCK)))


def has_turn(connection: Connection, run: Run, limit: int | None) -> bool:
    """Say whether so few other runs of the repository have instances, after all other saves."""
    if limit is None:
        return True
    take_turn(connection)
    return count_live(connection, run.key.repository_id, run.id) < limit


def count_live(connection: Connection, repository_id: int, but: str) -> int:
    """Return how many other runs of the repository have an instance, or had until now."""
    query = select(func.count()).where(
        runs.c.repository_id == repository_id,
        runs.c.finished_at.is_(None),
        runs.c.state.in_([state.value for state in _WITH_INSTANCES]),
        runs.c.id != but,
    )
    found: int = connection.execute(query).scalar_one()
    return found
