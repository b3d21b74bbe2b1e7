"""Say which instances are kept for the next run, whom they fit, and what they cost: pure.

An instance that is kept belongs to no run: the one that used it has ended and paid, the next one
has not begun. It waits for runs of the same repository only, ends by itself at `until`, and its
provider ends it at `dies_at`, whoever lives then.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from cynthus.frozen import replace
from cynthus.spec import Resources, Spec, Spot
from cynthus.wire import AgentState
from webhook_server.runs.approval import granted
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import deadline, price
from webhook_server.runs.model import Attempt, Cause, Outcome, Run, Verdict
from webhook_server.runs.observations import AgentSeen, Kept
from webhook_server.runs.policy import Policy

# To hear that there is work, clean up and enrol again: seconds; a minute is above every outage
# that the agent's short pauses between two questions can bridge.
TAKE_OVER = timedelta(minutes=1)
#: A shorter wait is not worth a machine: nobody pushes again so soon.
SHORTEST = timedelta(seconds=30)
#: An agent that waits asks with every heartbeat: three that are missing say that it is gone.
HEARD_WITHIN = timedelta(seconds=30)

#: Ends after which a machine is as good as before. Whoever cancels wants to pay no more.
_OWN_ENDS = frozenset({Cause.EXIT, Cause.OUT_OF_MEMORY, Cause.GATE})


def keep_until(
    run: Run, attempt: Attempt, why: Verdict, agent: AgentSeen | None, now: datetime
) -> datetime | None:
    """Return until when the attempt's instance may wait for another run; None: not at all."""
    keep_warm = granted(run.spec, run.grant).keep_warm if run.spec is not None else timedelta(0)
    by_itself = why.reason.cause in _OWN_ENDS and why.outcome in {
        Outcome.SUCCEEDED,
        Outcome.FAILED,
    }
    # A folder on this machine (repository 0) has no next run that would be of the same owner.
    alone = len(attempt.members) == 1 and run.key.repository_id != 0
    at_work = agent is not None and agent.state is AgentState.DONE and not agent.preempted
    # Whatever a stranger's commit left behind on a machine shall meet nobody else's run.
    ours = not run.origin.fork
    if not (keep_warm and by_itself and alone and at_work and ours):
        return None
    until = min(now + keep_warm, dies_at(attempt) - TAKE_OVER)
    return until if until - now >= SHORTEST else None


def dies_at(attempt: Attempt) -> datetime:
    """Return when the provider ends the attempt's instance at the earliest."""
    return attempt.ordered_at + attempt.max_life


def kept(run: Run, attempt: Attempt, now: datetime) -> Kept:
    """Return what is to be remembered of an instance that waits from now on."""
    if attempt.kept_until is None:
        raise ValueError(f"attempt {attempt.number} of run {run.id} keeps no instance")
    member = attempt.members[0]
    return Kept(
        machine=attempt.machine(member),
        repository_id=run.key.repository_id,
        offer=replace(attempt.offer, warm="", warm_run=""),
        disk_bytes=run.spec.resources.disk_bytes if run.spec is not None else None,
        kept_by=member.name,
        run_id=run.id,
        since=now,
        until=attempt.kept_until,
        dies_at=dies_at(attempt),
        heard_at=now,
    )


def needed_life(run: Run, spec: Spec, now: datetime, policy: Policy) -> timedelta:
    """Return how long an instance must still live that is there already."""
    at = deadline(run, spec)
    left = max(timedelta(0), at - now) if at else spec.resources.max_duration
    return TAKE_OVER + left + policy.collect_limit


def fits(one: Kept, need: Resources, *, life: timedelta, now: datetime) -> bool:
    """Say whether a run that needs this, for so long, may take the instance over.

    Not a GPU for a run that asks for none: it would pay for what it does not use.
    """
    offer = one.offer
    return (
        one.ended_at is None
        and now < one.until
        and now - one.heard_at <= HEARD_WITHIN
        and now + life <= one.dies_at
        and need.nodes == 1
        and need.provider in {None, offer.provider}
        and _has_gpu(offer, need)
        and (need.cpu or 0) <= offer.cpu
        and (need.memory_bytes or 0) <= offer.memory_bytes
        and _has_disk(one, need)
        and (need.spot is not Spot.NEVER or not offer.spot)
        and _is_in(offer.place, need.places)
    )


def _has_gpu(offer: Offer, need: Resources) -> bool:
    if not need.gpu:
        return offer.gpu_count == 0
    return any((offer.gpu_type, offer.gpu_count) == (one.type, one.count) for one in need.gpu)


def _has_disk(one: Kept, need: Resources) -> bool:
    if need.disk_bytes is None:
        return True
    return one.disk_bytes is not None and need.disk_bytes <= one.disk_bytes


def _is_in(place: str, places: tuple[str, ...]) -> bool:
    """Say whether a zone is one of the places, or lies in a region that is."""
    return not places or any(place == one or place.startswith(f"{one}-") for one in places)


def offers(
    waiting: Iterable[Kept], need: Resources, *, life: timedelta, now: datetime
) -> tuple[Offer, ...]:
    """Return what waits and fits: the cheapest first, of equals the one that ends soonest."""
    fitting = [one for one in waiting if fits(one, need, life=life, now=now)]
    fitting.sort(key=lambda one: (one.offer.usd_per_hour, one.until, one.machine))
    return tuple(replace(one.offer, warm=one.machine, warm_run=one.run_id) for one in fitting)


def remaining(waiting: Iterable[Kept], machine: str, now: datetime) -> timedelta:
    """Return how long the instance still lives by its provider's own limit."""
    return next(one.dies_at for one in waiting if one.machine == machine) - now


# ── the end, and the cost ───────────────────────────────────────────────────────────────────────


def is_over(one: Kept, now: datetime) -> bool:
    """Say whether it is to be given back: nobody took it in time, or its agent is gone."""
    if one.taken_by is not None or one.gone_at is not None:
        return False
    return one.ended_at is not None or now >= one.until or now - one.heard_at > 4 * HEARD_WITHIN


def idle_usd(one: Kept, now: datetime) -> Decimal:
    """Return what its waiting has cost; what it costs once it is taken, its next run pays."""
    end = one.ended_at if one.taken_by is not None else one.gone_at
    return price(one.offer.usd_per_hour, (end or now) - one.since)


def worst_usd(one: Kept, now: datetime, policy: Policy) -> Decimal:
    """Return the most that its waiting may come to cost."""
    if one.taken_by is not None or one.gone_at is not None:
        return idle_usd(one, now)
    latest = max(one.until, now) + policy.delete_allowance
    return price(one.offer.usd_per_hour, latest - one.since)
