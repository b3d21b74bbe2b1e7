"""Reckon with a run's limits: cost, deadlines, attempts, waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from cynthus.frozen import replace
from cynthus.spec import Spec
from webhook_server.runs.approval import granted
from webhook_server.runs.model import Attempt, Cause, Run, State
from webhook_server.runs.policy import Policy

_CENT_PARTS = Decimal("0.000001")  # a second of the cheapest machine is still seen
_HOUR = Decimal(3600)
_MICROSECOND = timedelta(microseconds=1)
MILLIONTHS = 1_000_000  # of a USD: whole numbers, which databases can add up


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A hard stop that the spec names."""

    cause: Cause
    at: datetime
    text: str


def cost(run: Run, now: datetime) -> Decimal:
    """Return what the run has cost: from each order to the confirmed end, rounded up."""
    return max(run.cost_usd, sum((attempt_cost(a, now) for a in run.attempts), Decimal(0)))


def cost_of_work(run: Run) -> Decimal:
    """Return what the run had cost when its last attempt ended, whenever that is asked."""
    over = max((a.ended_at for a in run.attempts if a.ended_at is not None), default=None)
    if over is None:
        return Decimal(0)
    return sum((attempt_cost(_until(a, over), over) for a in run.attempts), Decimal(0))


def _until(attempt: Attempt, moment: datetime) -> Attempt:
    """Return the attempt as if nobody knew what became of its machines later."""
    members = tuple(
        replace(one, gone_at=min(one.gone_at, moment)) if one.gone_at else one
        for one in attempt.members
    )
    return replace(attempt, members=members)


def attempt_cost(attempt: Attempt, now: datetime) -> Decimal:
    """Return what an attempt has cost: each of its instances until it is confirmed gone."""
    lives = [(member.gone_at or now) - attempt.ordered_at for member in attempt.members]
    whole = sum((max(life, timedelta(0)) for life in lives), timedelta(0))
    return price(attempt.offer.usd_per_hour, whole)


def price(usd_per_hour: Decimal, duration: timedelta) -> Decimal:
    """Return what a time costs in USD, rounded up to a millionth."""
    # Divided last: a third of an hour has no end as a decimal, and its last digit would cost one.
    exact = max(Decimal(0), _seconds(duration)) * usd_per_hour / _HOUR
    return exact.quantize(_CENT_PARTS, ROUND_UP)


def millionths(amount: Decimal) -> int:
    """Return an amount as databases keep it; the rules here round to it already."""
    return int(amount * MILLIONTHS)


def _seconds(duration: timedelta) -> Decimal:
    return Decimal(duration // _MICROSECOND) / MILLIONTHS


def allowed(spec: Spec, policy: Policy) -> Spec:
    """Return the spec with what the server allows of it: its `max_duration` is a hard stop too."""
    need, longest = spec.resources, policy.powers.longest
    if longest is None or need.max_duration <= longest:
        return spec
    return replace(spec, resources=replace(need, max_duration=longest))


def effective(run: Run, spec: Spec, policy: Policy, *, capped: bool = True) -> Spec:
    """Return what holds of the run's spec: what was granted, approved, extended and is allowed.

    `capped` False: without the approval's most price, for what would need another approval.
    """
    spec = granted(spec, run.grant)
    need = spec.resources
    most = need.max_cost_usd
    if capped and run.approval is not None:
        cap = run.approval.cap_usd
        most = cap if most is None else min(most, cap)
    if most != need.max_cost_usd or run.extensions:
        longer = need.max_duration + extended_by(run)
        spec = replace(spec, resources=replace(need, max_duration=longer, max_cost_usd=most))
    return allowed(spec, policy)


def extended_by(run: Run) -> timedelta:
    """Return how much time was added to the run so far."""
    return sum((extension.more for extension in run.extensions), timedelta(0))


def room_to_extend(run: Run, spec: Spec, policy: Policy) -> timedelta:
    """Return how much time may still be added; `spec` is the effective one."""
    left = (run.grant.extend or timedelta(0)) - extended_by(run)
    if policy.powers.longest is not None:
        left = min(left, policy.powers.longest - spec.resources.max_duration)
    return max(timedelta(0), left)


def deadline(run: Run, spec: Spec) -> datetime | None:
    """Return when `max_duration` is over: it counts from the first sign of the first agent."""
    started = [attempt.started_at for attempt in run.attempts if attempt.started_at]
    return min(started) + spec.resources.max_duration if started else None


def next_limit(run: Run, spec: Spec, now: datetime, policy: Policy) -> Limit | None:
    """Return the hard stop that comes next; one that is reached hides no other."""
    coming = [limit for limit in _limits(run, spec, now, policy) if limit.at > now]
    return min(coming, key=lambda limit: limit.at, default=None)


def limit_reached(run: Run, spec: Spec, now: datetime, policy: Policy) -> Limit | None:
    """Return the hard stop that was reached first."""
    reached = [limit for limit in _limits(run, spec, now, policy) if limit.at <= now]
    return min(reached, key=lambda limit: limit.at, default=None)


def money_spent(run: Run, spec: Spec, now: datetime, policy: Policy) -> Limit | None:
    """Return the stop for money once it is reached, whatever else was reached before."""
    limit = _money(run, spec, now, policy)
    return limit if limit and limit.at <= now else None


def _limits(run: Run, spec: Spec, now: datetime, policy: Policy) -> list[Limit]:
    found = (_duration(run, spec), _money(run, spec, now, policy))
    return [limit for limit in found if limit is not None]


def _duration(run: Run, spec: Spec) -> Limit | None:
    at = deadline(run, spec)
    if at is None:
        return None
    return Limit(cause=Cause.MAX_DURATION, at=at, text=duration_text(run, spec))


def duration_text(run: Run, spec: Spec) -> str:
    """Say that the time is over, and whose limit it was; `spec` is the effective one."""
    most, added = spec.resources.max_duration, extended_by(run)
    own = granted(run.spec, run.grant).resources.max_duration if run.spec is not None else most
    if own + added > most:
        return f"this server's limit for a run is over: {most} (CYNTHUS_MAX_DURATION)"
    extended = f", {added} of it added while it ran" if added else ""
    if run.grant.max_duration is not None:
        return f"the repository's policy's limit for a run is over: {most}{extended}"
    return f"resources/max_duration: {most} is over{extended}"


def _money(run: Run, spec: Spec, now: datetime, policy: Policy) -> Limit | None:
    """Return when the run must begin to end, so that its end is within `max_cost` too."""
    most = spec.resources.max_cost_usd
    if most is None:
        return None
    rate = sum((a.offer.usd_per_hour * len(a.living) for a in run.attempts), Decimal(0))
    left = most - cost(run, now)
    if left > 0 and rate == 0:
        return None
    text = f"{_whose_money(run, most)}: {most} USD are spent, counting what the deletion costs"
    at = now if left <= 0 else now + _later(left / rate * _HOUR) - _end_takes(run, policy)
    return Limit(cause=Cause.MAX_COST, at=at, text=text)


def _whose_money(run: Run, most: Decimal) -> str:
    if run.approval is not None and run.approval.cap_usd == most:
        return f"what {run.approval.by} approved"
    if run.grant.max_cost_usd == most:
        return "the repository's policy's limit of a run's cost"
    return "resources/max_cost"


def _end_takes(run: Run, policy: Policy) -> timedelta:
    """Return how long the instance may still cost after we have said "stop"."""
    # Once the command has ended there is nothing left to stop; only the deletion is to come.
    ended = run.state in {State.COLLECTING, State.RELEASING}
    return policy.delete_allowance if ended else winding_up(policy)


def winding_up(policy: Policy) -> timedelta:
    """Return how long the end of a running command takes at most, its instance's included."""
    return policy.stop_limit + policy.delete_allowance


def _later(seconds: Decimal) -> timedelta:
    # Rounded down: a moment early is within the budget, a moment late is not. Ten years at most.
    capped = min(seconds, Decimal(10 * 365 * 86400))
    return timedelta(microseconds=int((capped * 1_000_000).to_integral_value(ROUND_DOWN)))


def max_life(run: Run, spec: Spec, attempt: Attempt, policy: Policy) -> timedelta:
    """Return the instance's own hard end, counted from its creation.

    It is later than every limit of ours, so that ours come first; but never later than what
    `max_cost` pays for, so that this limit holds though nobody here lives to enforce it. What
    people may add to the run's time is within it: it cannot be moved later.
    """
    at, now = deadline(run, spec), attempt.ordered_at
    left = max(timedelta(0), at - now) if at else spec.resources.max_duration
    left += room_to_extend(run, spec, policy)
    by_time = policy.boot_limit + left + policy.collect_limit + policy.life_margin
    by_money = affordable_life(run, spec, attempt, policy)
    # A whole second: providers take no part of one.
    life = by_time if by_money is None else min(by_time, max(by_money, winding_up(policy)))
    return timedelta(seconds=life // timedelta(seconds=1))


def affordable_life(run: Run, spec: Spec, attempt: Attempt, policy: Policy) -> timedelta | None:
    """Return how long `max_cost` pays for this attempt beside those before it; None: for ever."""
    most = spec.resources.max_cost_usd
    rate = attempt.offer.usd_per_hour * len(attempt.members)
    if most is None or rate == 0:
        return None
    # What is still being given back costs until then.
    spent = cost(run, attempt.ordered_at + policy.delete_allowance)
    return max(timedelta(0), _later((most - spent) / rate * _HOUR))


def used_attempts(run: Run, policy: Policy) -> int:
    """Count the attempts that were used up: want of capacity is forgiven for a while.

    A queue for a rare GPU must not eat the attempts that are meant for lost instances.
    """
    used, streak_began = 0, None
    for attempt in run.attempts:
        if attempt.offer.warm and attempt.started_at is None:
            continue  # it cost a minute, and a new instance is no worse for it
        if not _no_capacity(attempt):
            used, streak_began = used + 1, None
            continue
        streak_began = streak_began or attempt.ordered_at
        if attempt.ordered_at - streak_began >= policy.capacity_forgiven:
            used += 1
    return used


def _no_capacity(attempt: Attempt) -> bool:
    return attempt.reason is not None and attempt.reason.cause is Cause.NO_CAPACITY
