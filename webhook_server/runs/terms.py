"""Say how far a run may go: its spec, lowered by policy, lengthened by people: pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from webhook_server.runs.approval import granted
from webhook_server.runs.limits import cost, extended_by
from webhook_server.runs.model import Run, State

_HOUR_S = 3600
_LONGEST = timedelta(days=3650)  # ten years: what a few cents an hour would still pay for


def is_held(run: Run) -> bool:
    """Say whether it waits for a person's yes."""
    return run.hold is not None and run.state is State.QUEUED


def most_usd(run: Run) -> Decimal | None:
    """Return what all attempts together may cost; None: nobody set a limit."""
    spec = granted(run.spec, run.grant).resources.max_cost_usd if run.spec else None
    cap = run.approval.cap_usd if run.approval else None
    return min((limit for limit in (spec, cap) if limit is not None), default=None)


def longest(run: Run) -> timedelta | None:
    """Return how long it may run from the first sign of its agent; None: no spec, no limit."""
    if run.spec is None:
        return None
    return granted(run.spec, run.grant).resources.max_duration + extended_by(run)


def started_at(run: Run) -> datetime | None:
    """Return the first sign of its first agent."""
    return min((a.started_at for a in run.attempts if a.started_at), default=None)


def usd_per_hour(run: Run) -> Decimal:
    """Return what everything that is lent to it costs now."""
    rates = (a.offer.usd_per_hour * len(a.living) for a in run.attempts)
    return sum(rates, Decimal(0))


def ends_by(run: Run, now: datetime) -> datetime | None:
    """Return when its limits end it at the latest: of time, or of money at today's rate.

    A few minutes late for money: the engine stops earlier, so that the deletion is paid for too.
    """
    began, most = started_at(run), longest(run)
    ends = [began + most] if began is not None and most is not None else []
    rate, money = usd_per_hour(run), most_usd(run)
    if rate > 0 and money is not None:
        seconds = max(money - cost(run, now), Decimal(0)) / rate * _HOUR_S
        left = timedelta(seconds=float(seconds)) if seconds < _LONGEST.total_seconds() else _LONGEST
        ends.append(now + left)
    return min(ends, default=None)
