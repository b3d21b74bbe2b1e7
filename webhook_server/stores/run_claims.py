"""Lend a run to one pass at a time, and end the claim: with what was decided, or without."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Update, select, update

from cynthus.errors import UserError
from cynthus.wire import EventKind
from webhook_server.runs import deeds
from webhook_server.runs.commands import Decision
from webhook_server.runs.limits import millionths
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.runs.trail import Authority
from webhook_server.stores import (
    event_store,
    publication_store,
    run_docs,
    schema,
    trail_store,
    warm_store,
)
from webhook_server.stores import run_statements as statements
from webhook_server.stores.budget_store import may_book
from webhook_server.stores.database import lease_values, own_clock
from webhook_server.stores.run_changes import columns, record
from webhook_server.stores.run_reading import UNREADABLE
from webhook_server.stores.run_turns import has_turn
from webhook_server.stores.tables import runs

log = logging.getLogger(__name__)

# In a rolling upgrade old and new servers look in turn: the run waits for few of these.
_LEFT_FOR = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to handle one run for a while; `token` and `version` prove it."""

    run: Run
    version: int
    token: str
    failures: int  # passes in a row that raised
    news: int  # how often it had been woken
    due_at: datetime | None = None  # since when it was to be looked at


# ── lend ────────────────────────────────────────────────────────────────────────────────────────


def lend_due(
    connection: Connection,
    *,
    limit: int,
    lease: timedelta,
    now: datetime,
    new_token: Callable[[], str],
) -> list[Claim]:
    """Take due runs, most overdue first, for `lease`; a row that cannot be read is parked."""
    clock = own_clock(connection)
    found = connection.execute(statements.due(clock), {"now": now, "most": limit}).all()
    claims = [_claim(connection, row, new_token, now) for row in found]
    lent = [claim for claim in claims if claim is not None]
    until = lease_values(clock, now, lease)
    if lent:
        connection.execute(
            statements.lend(clock, lease),
            [{"of_run": one.run.id, "claim_token": one.token, **until} for one in lent],
        )
    return lent


def _claim(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    new_token: Callable[[], str],
    now: datetime,
) -> Claim | None:
    try:
        run = run_docs.read(row.doc)
    except UserError as error:
        log.error("run unreadable run=%s fault=%s", row.id, error)  # noqa: TRY400 - said whole
        if schema.is_newer(connection):
            _leave(connection, row.id, now)
        else:
            _park_unreadable(connection, row.id, now)
        return None
    return Claim(
        run=run,
        version=row.version,
        token=new_token(),
        failures=row.failures,
        news=row.news,
        due_at=row.look_again_at,
    )


def _leave(connection: Connection, run_id: str, now: datetime) -> None:
    """Leave a row to the newer servers, one of which wrote it; look in vain a little later."""
    later = now + _LEFT_FOR
    connection.execute(update(runs).where(runs.c.id == run_id).values(look_again_at=later))


def _park_unreadable(connection: Connection, run_id: str, now: datetime) -> None:
    """Take a row out of the loop that no version of ours can read; the sweep ends its instances."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            state=State.FINISHED.value,
            state_since=now,
            outcome=Outcome.INFRASTRUCTURE.value,
            reason=UNREADABLE,
            finished_at=now,
            look_again_at=None,
        )
    )
    publication_store.wake_shown(connection, run_id, now)
    event_store.add(connection, run_id, 0, EventKind.NOTICE, {"text": UNREADABLE}, now)


# ── end ─────────────────────────────────────────────────────────────────────────────────────────


def save(
    connection: Connection, claim: Claim, decision: Decision, by: Authority, now: datetime
) -> str | None:
    """Store the decision and end the claim; else end the claim alone, and say what was lost."""
    why = _lost(connection, claim, decision, now)
    if why is not None:
        unlock(connection, claim)
        return why
    values = columns(decision.run) | _books(decision) | _after(claim, decision, now)
    changed = connection.execute(statements.SAVE, values).rowcount
    if not changed:
        unlock(connection, claim)
        return "changed"
    record(connection, claim.run, decision.run, now)
    trail_store.add(connection, by, deeds.of_save(claim.run, decision.run), now)
    return None


def _lost(connection: Connection, claim: Claim, decision: Decision, now: datetime) -> str | None:
    """Say what the decision counted on that somebody else has taken meanwhile; None: nothing."""
    if not _pays(connection, claim.run, decision, now):
        return "budget"
    if not has_turn(connection, claim.run, decision.live_limit):
        return "turn"
    return None if _takes(connection, claim, decision.run, now) else "warm"


def _pays(connection: Connection, run: Run, decision: Decision, now: datetime) -> bool:
    """Say whether the budgets allow what the decision commits to."""
    need = decision.commitment_usd
    return need is None or may_book(connection, run, need, decision.budgets, now)


def _takes(connection: Connection, claim: Claim, run: Run, now: datetime) -> bool:
    """Take the instance that a new attempt counts on; False: it is no longer there to be taken."""
    new = [one for one in run.attempts[len(claim.run.attempts) :] if one.offer.warm]
    if not new:
        return True
    # Whoever lost the race for the run must not take anything for it.
    held = select(runs.c.id).where(
        runs.c.id == claim.run.id,
        runs.c.version == claim.version,
        runs.c.lock_token == claim.token,
    )
    if connection.execute(held.with_for_update()).one_or_none() is None:
        return False
    return all(warm_store.take(connection, run, attempt, now) for attempt in new)


def _books(decision: Decision) -> dict[str, Any]:
    """Return what the run counts against budgets from now on."""
    run = decision.run
    usd = run.cost_usd if run.state is State.FINISHED else decision.commitment_usd
    return {} if usd is None else {"booked_microusd": millionths(usd)}


def _after(claim: Claim, decision: Decision, now: datetime) -> dict[str, Any]:
    """Return what ends the claim, and which claim it is."""
    moved = decision.run.state is not claim.run.state
    return {
        "of_run": claim.run.id,
        "claim_token": claim.token,
        "read_version": claim.version,
        "known_news": claim.news,
        "next_look": decision.look_again_at,
        "now": now,
        "version": claim.version + 1,
        "lock_token": None,
        "lock_until": None,
        # A pass that only waits proves nothing, and with commands it is not over: see `forgive`.
        "failures": 0 if moved and not decision.commands else claim.failures,
    }


def give_up(connection: Connection, claim: Claim, note: str, look_again_at: datetime) -> None:
    """End a pass that raised: count it, and tell it in the run's feed."""
    if put_off(connection, statements.FAILED, claim, look_again_at):
        number = claim.run.attempt.number if claim.run.attempt else 0
        event_store.add(
            connection,
            claim.run.id,
            number,
            EventKind.NOTICE,
            {"text": note},
            look_again_at,
        )


def put_off(
    connection: Connection, statement: Update, claim: Claim, look_again_at: datetime
) -> int:
    """End a claim, or what followed its save; return 0 where somebody else claimed the run."""
    values = {
        "of_run": claim.run.id,
        "claim_token": claim.token,
        "look_again_at": look_again_at,
    }
    return connection.execute(statement, values).rowcount


def unlock(connection: Connection, claim: Claim) -> None:
    """End a claim and change nothing else."""
    connection.execute(statements.UNLOCK, {"of_run": claim.run.id, "claim_token": claim.token})
