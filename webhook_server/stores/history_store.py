"""Read what earlier runs took: how long they waited for a machine, how long they worked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select

from cynthus.errors import UserError
from cynthus.wire import EventKind
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.stores import run_docs
from webhook_server.stores.database import Database
from webhook_server.stores.run_docs import DOC
from webhook_server.stores.tables import events, runs

_LOOKED_AT = 200  # runs back: what was long ago says little about tomorrow's wait
_COUNTED = 20  # enough that one odd day does not decide the median


class HistoryStore:
    """Reads the tables `runs` and `events`; changes nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def waits(self, provider: str, machine: str) -> tuple[timedelta, ...]:
        """Return how long the newest runs on such machines waited, queued until running.

        Of all repositories of this server: what one waited for, the next one waits for as well.
        """
        query = select(DOC).order_by(runs.c.seq.desc()).limit(_LOOKED_AT)
        with self._db.read() as connection:
            docs = connection.execute(query).scalars().all()
        began = _began(docs, provider, machine)
        queued = self._queued_at(list(began))
        return tuple(began[run_id] - at for run_id, at in queued.items() if at <= began[run_id])

    def _queued_at(self, run_ids: Sequence[str]) -> dict[str, datetime]:
        query = (
            select(events.c.run_id, events.c.at, events.c.body)
            .where(events.c.run_id.in_(run_ids), events.c.kind == EventKind.STATE.value)
            .order_by(events.c.seq)
        )
        found: dict[str, datetime] = {}
        with self._db.read() as connection:
            for row in connection.execute(query):
                if row.body.get("state") == State.QUEUED.value:
                    found.setdefault(row.run_id, row.at)
        return found

    def durations(self, repository_id: int, name: str) -> tuple[timedelta, ...]:
        """Return how long the newest successes of a spec's name ran, as files say it."""
        query = (
            select(DOC)
            .where(
                runs.c.repository_id == repository_id,
                runs.c.name == name,
                runs.c.outcome == Outcome.SUCCEEDED.value,
            )
            .order_by(runs.c.number.desc())
            .limit(_COUNTED)
        )
        with self._db.read() as connection:
            docs = connection.execute(query).scalars().all()
        ran = (_ran(run) for run in map(_read, docs) if run is not None)
        return tuple(duration for duration in ran if duration is not None)


def _began(docs: Sequence[str], provider: str, machine: str) -> dict[str, datetime]:
    """Return when those of the runs began that the provider lent such a machine."""
    found: dict[str, datetime] = {}
    for run in map(_read, docs):
        started = [a for a in run.attempts if a.started_at is not None] if run else []
        if run is None or not started:
            continue
        first = started[0]
        same = (first.offer.provider, first.offer.machine) == (provider, machine)
        if same and first.started_at is not None and not first.offer.warm:
            found[run.id] = first.started_at
        if len(found) == _COUNTED:
            break
    return found


def _ran(run: Run) -> timedelta | None:
    """Return how long the attempt ran that succeeded: what was lost before it is bad luck."""
    last = run.attempt
    if last is None or last.started_at is None or last.ended_at is None:
        return None
    return max(last.ended_at - last.started_at, timedelta(0))


def _read(doc: str) -> Run | None:
    with contextlib.suppress(UserError):
        return run_docs.read(doc)
    return None
