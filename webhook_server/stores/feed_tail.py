"""Read the end of a run's feed, without reading its beginning."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from cynthus.wire import EventKind
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import ranked
from webhook_server.stores.tables import events

_TAIL_ROWS = 2000  # a chunk is a line at least: more would not fit on a page
_SERIES_ROWS = 20_000  # newest points of all charts together: about 2 MB in memory


def newest_seq(database: Database, run_id: str) -> int:
    """Return the place of the newest event, 0 when there is none."""
    query = select(func.max(events.c.seq)).where(events.c.run_id == run_id)
    with database.read() as connection:
        return connection.execute(query).scalar_one() or 0


def log_tail(
    database: Database, run_id: str, attempt: int, limit_bytes: int, rank: int | None = None
) -> tuple[str, bool]:
    """Return the end of an attempt's log, with whether something stands before it.

    Of a gang all logs together, each line with its rank, or with `rank` one of them alone.
    """
    whose = [] if rank is None else [events.c.rank == rank]
    query = (
        select(events.c.rank, events.c.body)
        .where(
            events.c.run_id == run_id,
            events.c.kind == EventKind.LOG.value,
            events.c.attempt == attempt,
            *whose,
        )
        .order_by(events.c.seq.desc())
        .limit(_TAIL_ROWS + 1)
    )
    chunks: list[str] = []
    size = 0
    with database.read() as connection:
        for whom, body in connection.execute(query):
            if size >= limit_bytes or len(chunks) == _TAIL_ROWS:
                return "".join(reversed(chunks)), True
            text = str(body.get("text", ""))
            chunks.append(ranked(text, whom) if rank is None else text)
            size += len(chunks[-1])
    return "".join(reversed(chunks)), False


def points(database: Database, run_id: str) -> list[tuple[str, int, float, dict[str, Any]]]:
    """Return the newest samples and metric points, oldest first: kind, attempt, time, body."""
    kinds = (EventKind.SAMPLE.value, EventKind.METRIC.value)
    query = (
        select(events.c.kind, events.c.attempt, events.c.at, events.c.body)
        .where(events.c.run_id == run_id, events.c.kind.in_(kinds))
        .order_by(events.c.seq.desc())
        .limit(_SERIES_ROWS)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [(row.kind, row.attempt, row.at.timestamp(), row.body) for row in reversed(rows)]
