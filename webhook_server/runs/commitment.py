"""Reckon the most that a run may come to cost, and whether that may be ordered.

A budget counts commitments, not spending: two runs that each had spent nothing yet could
otherwise spend the same dollar. An order raises a run's commitment; nothing else does, so only
orders need to be compared with budgets, and nothing that was ordered can exceed them later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cynthus.frozen import replace
from cynthus.money import usd, usd_left
from cynthus.spec import Spec
from webhook_server.runs.budget import BudgetScope, BudgetSeen, month_turns_at
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import (
    affordable_life,
    cost,
    max_life,
    price,
    winding_up,
)
from webhook_server.runs.model import Attempt, Cause, Member, Reason, Run, State, instance_names
from webhook_server.runs.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Purse:
    """What an order is paid from: the run's own limit, and the budgets it shares."""

    spec: Spec
    budgets: Sequence[BudgetSeen]
    policy: Policy


def committed_usd(run: Run, spec: Spec, now: datetime, policy: Policy) -> Decimal:
    """Return the most that the run may come to cost by what is ordered so far.

    That is what it has cost, and what its instances cost until their own hard end, or until
    `max_cost` ends them. It never rises but by an order; a provider that neither deletes an
    instance nor ends it by itself can cost more, and then the cost itself is returned.
    """
    spent = cost(run, now)
    if run.state is State.FINISHED:
        return spent
    worst = sum((worst_usd(attempt, policy) for attempt in run.attempts), Decimal(0))
    most = spec.resources.max_cost_usd
    return max(spent, worst if most is None else min(worst, most))


def worst_usd(attempt: Attempt, policy: Policy) -> Decimal:
    """Return the most that an attempt may come to cost."""
    lives = [
        (member.gone_at or latest_end(attempt, member, policy)) - attempt.ordered_at
        for member in attempt.members
    ]
    return price(attempt.offer.usd_per_hour, sum(lives, timedelta(0)))


def latest_end(attempt: Attempt, member: Member, policy: Policy) -> datetime:
    """Return until when the instance may exist at most, our seeing that it is gone included."""
    certain = member.create_answered or member.started_at or attempt.ended_at
    last_create = member.last_try_at if certain else attempt.ordered_at + policy.boot_limit
    late = timedelta(0) if member.create_answered else policy.grace
    return last_create + late + attempt.max_life + policy.end_late + policy.delete_allowance


def next_attempt(run: Run, offer: Offer, purse: Purse, now: datetime) -> Attempt:
    """Return the run's next attempt as it would be ordered now."""
    number = len(run.attempts) + 1
    names = instance_names(run.id, number, purse.spec.resources.nodes)
    attempt = Attempt(
        number=number,
        offer=offer,
        ordered_at=now,
        max_life=timedelta(0),
        members=tuple(
            Member(name=name, rank=rank, last_try_at=now) for rank, name in enumerate(names)
        ),
    )
    return replace(attempt, max_life=max_life(run, purse.spec, attempt, purse.policy))


def refusal(run: Run, attempt: Attempt, purse: Purse) -> Reason | None:
    """Return why this attempt may not be ordered, or None when it may."""
    too_little = _own_limit(run, attempt, purse)
    if too_little is not None:
        return Reason(cause=Cause.MAX_COST, text=too_little)
    need = committed_with(run, attempt, purse)
    for budget in purse.budgets:
        if not budget.allows(need):
            return Reason(cause=Cause.BUDGET, text=_over(run, attempt, budget, need))
    return None


def committed_with(run: Run, attempt: Attempt, purse: Purse) -> Decimal:
    """Return what the run may come to cost at most once this attempt is ordered as well."""
    ordered = replace(run, attempts=(*run.attempts, attempt))
    return committed_usd(ordered, purse.spec, attempt.ordered_at, purse.policy)


def _own_limit(run: Run, attempt: Attempt, purse: Purse) -> str | None:
    """Say why `max_cost` pays for no useful time, if it does not."""
    spec, policy = purse.spec, purse.policy
    left = affordable_life(run, spec, attempt, policy)
    if left is None or left > winding_up(policy):
        return None
    spent = cost(run, attempt.ordered_at)
    return (
        f"resources/max_cost: should pay {attempt.offer.machine} for longer than the"
        f" {winding_up(policy)} that its end may take, found {spec.resources.max_cost_usd} USD,"
        f" {usd(spent)} of it spent, at {_hourly(attempt.offer, spec)}. Raise it, or name a"
        " cheaper machine."
    )


def _over(run: Run, attempt: Attempt, budget: BudgetSeen, need: Decimal) -> str:
    turns_at = month_turns_at(attempt.ordered_at)
    return (
        f"the monthly budget of {_whose(run, budget)} has {usd_left(budget.left_usd)} left of"
        f" {usd(budget.limit_usd)}, and this run on {attempt.offer.machine} at"
        f" {attempt.offer.usd_per_hour} USD an hour may need {usd(need)}. Lower"
        " resources/max_duration, set resources/max_cost, name a cheaper machine, wait until"
        f" {turns_at:%Y-%m-%d} (UTC), or have {budget.setting} raised."
    )


def _whose(run: Run, budget: BudgetSeen) -> str:
    owner = budget.scope is BudgetScope.OWNER
    return f"the owner {run.repository.partition('/')[0]}" if owner else run.repository


def _hourly(offer: Offer, spec: Spec) -> str:
    nodes = spec.resources.nodes
    each = f"{offer.usd_per_hour} USD an hour"
    return each if nodes == 1 else f"{nodes} times {each}"
