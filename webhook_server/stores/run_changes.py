"""Write a changed run: the columns by which it is found, and all that follows from the change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from cynthus.codec import encode
from cynthus.frozen import replace
from cynthus.wire import EventKind
from webhook_server.runs.model import Attempt, Run, State
from webhook_server.runs.observations import CreateOutcome, CreateSeen
from webhook_server.stores import (
    event_store,
    instance_store,
    publication_store,
    run_docs,
    warm_store,
)


def columns(run: Run) -> dict[str, Any]:
    """Return the columns that repeat a part of the run, so that it can be found by them."""
    finished = run.state is State.FINISHED
    return {
        "repository": run.repository,
        "ref": run.ref,
        "state": run.state.value,
        "state_since": run.state_since,
        "outcome": run.outcome.value if finished and run.outcome else None,
        "reason": run.reason.text,
        "cost_usd": format(run.cost_usd, "f"),
        "finished_at": run.finished_at,
        "pull_request": run.pull_request,
        "doc": run_docs.written(run),
    }


def record(connection: Connection, before: Run | None, run: Run, now: datetime) -> None:
    """Write what follows from a changed run: its feed, its new instance, what GitHub shows."""
    if before is None or (before.state, before.outcome) != (run.state, run.outcome):
        _state_event(connection, run, now)
    if run.attempt and (before is None or len(before.attempts) < len(run.attempts)):
        _instances(connection, run, run.attempt)
    _keep(connection, before, run, now)
    if run.key.repository_id and _differs(before, run):
        publication_store.make_due(connection, run, now)


def _state_event(connection: Connection, run: Run, now: datetime) -> None:
    number = run.attempt.number if run.attempt else 0
    body: dict[str, object] = {
        "state": run.state.value,
        "outcome": run.outcome.value if run.outcome else None,
        "cause": run.reason.cause.value,
        "reason": run.reason.text,
        "attempt": number,
    }
    event_store.add(connection, run.id, number, EventKind.STATE, body, now)


def _instances(connection: Connection, run: Run, attempt: Attempt) -> None:
    earlier = run.attempts[-2].members if len(run.attempts) > 1 else ()
    before = {member.rank: member.name for member in earlier}
    for member in attempt.members:
        row = {
            "name": member.name,
            "run_id": run.id,
            "attempt": attempt.number,
            "rank": member.rank if len(attempt.members) > 1 else None,
            "provider": attempt.offer.provider,
            "repository_id": run.key.repository_id,
            "ordered_at": attempt.ordered_at,
            "create_seen": _taken_over(attempt) if attempt.offer.warm else None,
        }
        instance_store.add(connection, row, before.get(member.rank))


def _taken_over(attempt: Attempt) -> dict[str, Any]:
    """Return the answer to the order of an instance that is there already."""
    seen = CreateSeen(outcome=CreateOutcome.CREATED, at=attempt.ordered_at, detail="kept warm")
    value: dict[str, Any] = encode(seen)
    return value


def _keep(connection: Connection, before: Run | None, run: Run, now: datetime) -> None:
    """Let the instance wait that this save hands over."""
    known = before.attempts if before is not None else ()
    for number, attempt in enumerate(run.attempts):
        was = known[number].kept_until if number < len(known) else None
        if attempt.kept_until is not None and was is None:
            warm_store.keep(connection, run, attempt, now)
            # Here and not by a command alone: no later pass gives back what waits.
            instance_store.close(connection, attempt.members[0].name, now)


def _differs(before: Run | None, run: Run) -> bool:
    """Say whether there is something new to show: the cost alone grows with every look."""
    return before is None or replace(run, cost_usd=before.cost_usd) != before
