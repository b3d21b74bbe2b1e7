"""Reckon with a run's limits: cost, deadlines, attempts, waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from cynthus.spec import Spec
from webhook_server.runs.model import Attempt, Cause, Run
from webhook_server.runs.policy import Policy

_CENT_PARTS = Decimal("0.000001")  # a second of the cheapest machine is still seen
_HOUR = Decimal(3600)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A hard stop that the spec names."""

    cause: Cause
    at: datetime
    text: str


def cost(run: Run, now: datetime) -> Decimal:
    """Return what the run has cost: from each order to the confirmed end, rounded up."""
    return max(run.cost_usd, sum((attempt_cost(a, now) for a in run.attempts), Decimal(0)))


def attempt_cost(attempt: Attempt, now: datetime) -> Decimal:
    """Return what the attempt has cost: each of its instances until it is confirmed gone."""
    lives = [(member.gone_at or now) - attempt.ordered_at for member in attempt.members]
    hours = _seconds(sum((max(life, timedelta(0)) for life in lives), timedelta(0))) / _HOUR
    return (hours * attempt.offer.usd_per_hour).quantize(_CENT_PARTS, ROUND_UP)


def _seconds(duration: timedelta) -> Decimal:
    return Decimal(duration // timedelta(microseconds=1)) / 1_000_000


def deadline(run: Run, spec: Spec) -> datetime | None:
    """Return when `max_duration` is over: it counts from the first sign of the first agent."""
    started = [attempt.started_at for attempt in run.attempts if attempt.started_at]
    return min(started) + spec.resources.max_duration if started else None


def next_limit(run: Run, spec: Spec, now: datetime) -> Limit | None:
    """Return the hard stop that comes first."""
    limits = [limit for limit in (_duration(run, spec), _budget(run, spec, now)) if limit]
    return min(limits, key=lambda limit: limit.at, default=None)


def limit_reached(run: Run, spec: Spec, now: datetime) -> Limit | None:
    """Return the hard stop that has been reached."""
    limit = next_limit(run, spec, now)
    return limit if limit and limit.at <= now else None


def _duration(run: Run, spec: Spec) -> Limit | None:
    at = deadline(run, spec)
    if at is None:
        return None
    text = f"resources/max_duration: {spec.resources.max_duration} is over"
    return Limit(cause=Cause.MAX_DURATION, at=at, text=text)


def _budget(run: Run, spec: Spec, now: datetime) -> Limit | None:
    most = spec.resources.max_cost_usd
    if most is None:
        return None
    rate = sum((a.offer.usd_per_hour * len(a.living) for a in run.attempts), Decimal(0))
    left = most - cost(run, now)
    if left > 0 and rate == 0:
        return None
    text = f"resources/max_cost: {most} USD are spent"
    at = now if left <= 0 else now + _later(left / rate * _HOUR)
    return Limit(cause=Cause.MAX_COST, at=at, text=text)


def _later(seconds: Decimal) -> timedelta:
    # Rounded down: a moment early is within the budget, a moment late is not. Ten years at most.
    capped = min(seconds, Decimal(10 * 365 * 86400))
    return timedelta(microseconds=int((capped * 1_000_000).to_integral_value(ROUND_DOWN)))


def max_life(run: Run, spec: Spec, now: datetime, policy: Policy) -> timedelta:
    """Return the instance's own hard end: later than all of ours, so that ours come first."""
    at = deadline(run, spec)
    left = max(timedelta(0), at - now) if at else spec.resources.max_duration
    return policy.boot_limit + left + policy.collect_limit + policy.life_margin


def used_attempts(run: Run, policy: Policy) -> int:
    """Count the attempts that were used up: want of capacity is forgiven for a while.

    A queue for a rare GPU must not eat the attempts that are meant for lost instances.
    """
    used, streak_began = 0, None
    for attempt in run.attempts:
        if not _no_capacity(attempt):
            used, streak_began = used + 1, None
            continue
        streak_began = streak_began or attempt.ordered_at
        if attempt.ordered_at - streak_began >= policy.capacity_forgiven:
            used += 1
    return used


def _no_capacity(attempt: Attempt) -> bool:
    return attempt.reason is not None and attempt.reason.cause is Cause.NO_CAPACITY
