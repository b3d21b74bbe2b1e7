"""Keep each run's feed: transitions, log text, metrics, samples; append-only, read by `seq`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select

from cynthus.wire import EventKind, Mark, RunEvent
from webhook_server.stores.clean import clean
from webhook_server.stores.database import Database
from webhook_server.stores.tables import events, instances

PAGE = 500  # rows a read: a page of log chunks (256 KiB each at most) stays well under memory
MARKS = 200  # of one run: ten attempts have seventy
NOTICES = 50  # shown of one run; the feed has them all


@dataclass(frozen=True, kw_only=True)
class Latest:
    """What a run's page shows at a glance."""

    progress: float | None
    phase: str | None
    metrics: dict[str, float]  # the last value of each
    summary: str | None
    notices: tuple[str, ...]
    annotations: tuple[dict[str, object], ...]
    marks: tuple[tuple[int, Mark], ...] = ()  # with their attempts; of a gang rank 0's


class EventStore:
    """Reads and writes the table `events`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def after(
        self, run_id: str, seq: int, *, limit: int, kinds: Collection[EventKind] | None = None
    ) -> list[RunEvent]:
        """Return the events that follow `seq`, oldest first."""
        query = (
            select(events)
            .where(events.c.run_id == run_id, events.c.seq > seq)
            .order_by(events.c.seq)
            .limit(limit)
        )
        if kinds is not None:
            query = query.where(events.c.kind.in_([kind.value for kind in kinds]))
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(query)]

    def append(
        self, run_id: str, attempt: int, kind: EventKind, body: dict[str, object], at: datetime
    ) -> None:
        """Add an event. Not safe to repeat: a repeat adds it again."""
        self._db.write(lambda connection: add(connection, run_id, attempt, kind, body, at))

    def latest(self, run_id: str) -> Latest:
        """Return the newest of everything that replaces what came before, and the short lists."""
        with self._db.read() as connection:
            progress = _newest(connection, run_id, EventKind.PROGRESS)
            phase = _newest(connection, run_id, EventKind.PHASE)
            summary = _newest(connection, run_id, EventKind.SUMMARY)
            notices = connection.execute(_of(run_id, EventKind.NOTICE).limit(NOTICES)).scalars()
            remarks = connection.execute(_of(run_id, EventKind.ANNOTATION)).scalars()
            return Latest(
                progress=None if progress is None else _number(progress.get("value")),
                phase=None if phase is None else str(phase.get("name", "")),
                metrics=_metrics(connection, run_id),
                summary=None if summary is None else str(summary.get("text", "")),
                notices=tuple(str(body.get("text", "")) for body in notices),
                annotations=tuple(remarks),
                marks=_marks(connection, run_id),
            )

    def log_text(self, run_id: str, attempt: int, rank: int | None = None) -> Iterator[str]:
        """Yield the attempt's log in order; memory stays flat, no transaction is kept open.

        Of a gang all logs together, each line with its rank, or with `rank` one of them alone.
        """
        seq, whose = 0, [] if rank is None else [events.c.rank == rank]
        while True:
            query = (
                select(events.c.seq, events.c.rank, events.c.body)
                .where(
                    events.c.run_id == run_id,
                    events.c.kind == EventKind.LOG.value,
                    events.c.attempt == attempt,
                    events.c.seq > seq,
                    *whose,
                )
                .order_by(events.c.seq)
                .limit(PAGE)
            )
            with self._db.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                text = str(row.body.get("text", ""))
                yield ranked(text, row.rank) if rank is None else text
            if len(rows) < PAGE:
                return
            seq = rows[-1].seq


def add(  # noqa: PLR0913, PLR0917 - one value a column
    connection: Connection,
    run_id: str,
    attempt: int,
    kind: EventKind,
    body: dict[str, object],
    at: datetime,
) -> None:
    """Add an event within a larger transaction."""
    values = {"run_id": run_id, "attempt": attempt, "kind": kind.value, "at": at}
    connection.execute(_ADD, {**values, "body": clean(body)})


_ADD = insert(events)  # built once: each change of a run adds an event


def _of(run_id: str, kind: EventKind) -> Select[tuple[Any]]:
    return (
        select(events.c.body)
        .where(events.c.run_id == run_id, events.c.kind == kind.value)
        .order_by(events.c.seq)
    )


def _newest(connection: Connection, run_id: str, kind: EventKind) -> dict[str, Any] | None:
    query = (
        select(events.c.body)
        .where(events.c.run_id == run_id, events.c.kind == kind.value)
        .order_by(events.c.seq.desc())
        .limit(1)
    )
    found: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
    return found


def _metrics(connection: Connection, run_id: str) -> dict[str, float]:
    # The heartbeats keep the last values beside their counts: no scan of 50,000 points.
    query = (
        select(instances.c.counts)
        .where(instances.c.run_id == run_id)
        .order_by(instances.c.attempt.desc(), instances.c.rank)
        .limit(1)
    )
    counts: dict[str, Any] = connection.execute(query).scalar_one_or_none() or {}
    return dict(counts.get("metrics", {}))


def _marks(connection: Connection, run_id: str) -> tuple[tuple[int, Mark], ...]:
    query = (
        select(events.c.attempt, events.c.at, events.c.body)
        .where(
            events.c.run_id == run_id,
            events.c.kind == EventKind.MARK.value,
            or_(events.c.rank.is_(None), events.c.rank == 0),
        )
        .order_by(events.c.seq)
        .limit(MARKS)
    )
    rows = connection.execute(query)
    return tuple((row.attempt, Mark(name=str(row.body.get("name")), at=row.at)) for row in rows)


def ranked(text: str, rank: int | None) -> str:
    """Return log text with its rank before each line, as torchrun tells them apart."""
    return text if rank is None else re.sub(r"(?m)^(?=.)", f"[rank {rank}] ", text)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _event(row: Row[Any]) -> RunEvent:
    body = row.body
    if row.rank is not None and row.kind == EventKind.LOG.value:
        body = body | {"text": ranked(str(body.get("text", "")), row.rank)}
    return RunEvent(
        seq=row.seq,
        at=row.at,
        attempt=row.attempt,
        kind=EventKind(row.kind),
        body=body,
        rank=row.rank,
    )
