"""Keep which checkpoints a run has; their bytes lie in the store of blobs (checkpoint_shelf)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from cynthus.wire import EventKind
from webhook_server.stores.database import Database
from webhook_server.stores.tables import checkpoints, events, instances, is_set, runs

KEPT = 2  # of one run and rank: the newest, and the one before for when that one is damaged
_TOLD = 200  # metric values looked through for the last step: one step rarely tells more


@dataclass(frozen=True, kw_only=True)
class KeptCheckpoint:
    """One checkpoint that exists."""

    run_id: str
    rank: int
    number: int
    repository_id: int
    attempt: int
    manifest_sha256: str
    size_bytes: int
    files: int
    saved_at: datetime
    step: int | None = None
    progress: float | None = None


class CheckpointStore:
    """Reads and writes the table `checkpoints`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def keep(self, instance: str, checkpoint: KeptCheckpoint) -> int | None:
        """Add a checkpoint of the instance's attempt; return its number, whatever was asked for.

        None: the attempt is over, and what comes late must not replace what the next one restored.
        Safe to repeat: the same list as the newest one is kept once. Older ones than KEPT go.
        """

        def work(connection: Connection) -> int | None:
            row = connection.execute(_OPEN.where(instances.c.name == instance)).one_or_none()
            if row is None:
                return None
            newest = connection.execute(_of(checkpoint.run_id, checkpoint.rank).limit(1)).first()
            if newest is not None and newest.manifest_sha256 == checkpoint.manifest_sha256:
                return int(newest.number)
            number = 1 if newest is None else newest.number + 1
            connection.execute(insert(checkpoints), {**vars(checkpoint), "number": number})
            connection.execute(
                delete(checkpoints).where(
                    checkpoints.c.run_id == checkpoint.run_id,
                    checkpoints.c.rank == checkpoint.rank,
                    checkpoints.c.number <= number - KEPT,
                )
            )
            return int(number)

        return self._db.write(work)

    def of(self, run_id: str, rank: int) -> tuple[KeptCheckpoint, ...]:
        """Return the checkpoints of one rank of a run, the newest first."""
        with self._db.read() as connection:
            found = connection.execute(_of(run_id, rank)).mappings()
            return tuple(KeptCheckpoint(**row) for row in found)

    def last_step(self, run_id: str, *, before_attempt: int | None) -> int | None:
        """Return the last step that a run's metrics told in the newest attempt that told any.

        Of the attempts before that one; None: of all.
        """
        earlier = [] if before_attempt is None else [events.c.attempt < before_attempt]
        query = (
            select(events.c.attempt, events.c.body)
            .where(events.c.run_id == run_id, events.c.kind == EventKind.METRIC.value)
            .where(*earlier)
            .order_by(events.c.seq.desc())
            .limit(_TOLD)
        )
        with self._db.read() as connection:
            told = [(row.attempt, row.body.get("step")) for row in connection.execute(query)]
        steps = [(attempt, step) for attempt, step in told if isinstance(step, int)]
        return max(steps)[1] if steps else None

    def ended_before(self, moment: datetime, limit: int) -> list[tuple[int, str]]:
        """Return repository and id of runs that ended before, and still have checkpoints."""
        query = (
            select(checkpoints.c.repository_id, checkpoints.c.run_id)
            .join(runs, runs.c.id == checkpoints.c.run_id)
            .where(is_set(runs.c.finished_at), runs.c.finished_at < moment)
            .group_by(checkpoints.c.repository_id, checkpoints.c.run_id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [(row.repository_id, row.run_id) for row in connection.execute(query)]

    def forget(self, run_id: str) -> None:
        """Drop all checkpoints of a run, whose bytes are gone. Safe to repeat."""
        statement = delete(checkpoints).where(checkpoints.c.run_id == run_id)
        self._db.write(lambda connection: connection.execute(statement).rowcount)


# The newest attempt alone may write: an older instance that was never closed is one all the same.
_newer = instances.alias("newer")
_OPEN = (
    select(instances.c.name)
    .where(
        instances.c.closed_at.is_(None),
        instances.c.attempt
        == select(func.max(_newer.c.attempt))
        .where(_newer.c.run_id == instances.c.run_id)
        .scalar_subquery(),
    )
    .with_for_update()
)


def _of(run_id: str, rank: int) -> Any:
    return (
        select(checkpoints)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.rank == rank)
        .order_by(checkpoints.c.number.desc())
    )
