"""Let a queued run go on only as its repository's policy, and the people it names, allow: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from cynthus.frozen import replace
from cynthus.repository_policy import RepositoryPolicy
from webhook_server.runs import approval
from webhook_server.runs.commands import Decision
from webhook_server.runs.commitment import Purse, committed_with, next_attempt
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import effective
from webhook_server.runs.look import Look, finish, notice
from webhook_server.runs.model import Approval, Attempt, Cause, Hold, Reason, Run
from webhook_server.runs.policy import Policy
from webhook_server.runs.verdict import failed

#: Prices and policies change while a run is held; the yes itself wakes it at once.
HELD_LOOK = timedelta(hours=1)
#: Nobody says yes after a week of silence to what a week-old commit wanted.
HELD_LIMIT = timedelta(days=7)
_CENT = Decimal("0.01")


def admit(at: Look) -> Look | Decision:
    """Return the look at what is granted of the run; or the end of one that is not allowed.

    Without a repository on GitHub there is no policy, and only the server's own limits hold.
    """
    seen, run = at.seen.policy, at.run
    if seen is None:
        return at
    refused = approval.refusal(at.spec, seen, provider=at.seen.provider)
    if refused is not None:
        return finish(replace(run, hold=None), failed(Cause.POLICY, refused), at.now)
    fork = run.origin.fork
    spec = run.spec or at.spec
    run = replace(run, grant=approval.grant_of(spec, seen.policy, fork=fork))
    for text in approval.lowered(run.grant, fork=fork):
        run = notice(run, text)
    run = _with_approval(run, at.seen.approval)
    at = replace(at, run=run, spec=effective(run, spec, at.policy, capped=False))
    return _lifted(at)


def _with_approval(run: Run, wished: Approval | None) -> Run:
    """Keep the yes that counts: of those that are for exactly this run, the one for most."""
    given = [one for one in (run.approval, wished) if one and approval.is_for(one, run)]
    best = max(given, key=lambda one: one.cap_usd, default=None)
    return replace(run, approval=approval.bound(best, run.image or ""))


def _lifted(at: Look) -> Look | Decision:
    """Let the run go on once its hold is answered; end it when nobody has for long."""
    run, hold = at.run, at.run.hold
    if hold is None:
        return at
    if run.approval is not None and run.approval.cap_usd >= hold.cap_usd:
        # Its wait for an instance begins here: the time for that was not the approver's to use up.
        return replace(at, run=replace(run, hold=None, state_since=at.now))
    if at.now >= run.state_since + HELD_LIMIT:
        text = f"nobody approved it within {HELD_LIMIT.days} days ({hold.who} may)"
        return finish(replace(run, hold=None), failed(Cause.APPROVAL, text), at.now)
    return at


# ── the hold ────────────────────────────────────────────────────────────────────────────────────


def hold_of(at: Look, attempt: Attempt) -> Hold | None:
    """Return what this order must wait for a person for; None: it may be made now."""
    seen = at.seen.policy
    policy = seen.policy if seen is not None else RepositoryPolicy()
    hold = approval.hold_for(at.run, at.spec, policy, _need_usd(at, attempt))
    given = at.run.approval
    if hold is None or given is None:
        return hold
    return None if approval.covers(given, at.run, _least_usd(at, attempt)) else hold


def _need_usd(at: Look, attempt: Attempt) -> Decimal:
    """Return the most that the run may come to cost once this attempt is ordered as well."""
    return committed_with(at.run, attempt, _purse(at, at.policy))


def _least_usd(at: Look, attempt: Attempt) -> Decimal:
    """Return what the run must be able to cost for this attempt to have all its time.

    Without the margins above our own limits, so that an approved run may repeat an attempt: the
    margins pay for the boots and the deletions of those before it. The cap itself holds anyway.
    """
    bare = replace(at.policy, life_margin=timedelta(0))
    run = replace(at.run, grant=replace(at.run.grant, extend=None))
    again = next_attempt(run, attempt.offer, _purse(at, bare), at.now)
    return committed_with(run, again, _purse(at, bare))


def _purse(at: Look, policy: Policy) -> Purse:
    return Purse(spec=at.spec, budgets=at.seen.budgets, policy=policy)


def ordered_as(at: Look, offer: Offer) -> Attempt:
    """Return the attempt as it may be ordered: never beyond what was approved."""
    spec = effective(at.run, at.run.spec or at.spec, at.policy, capped=True)
    purse = replace(_purse(at, at.policy), spec=spec)
    return next_attempt(at.run, offer, purse, at.now)


def permitted(at: Look, tries: Mapping[Offer, Attempt]) -> list[Offer]:
    """Return the offers that nobody must say yes to, or somebody has."""
    return [offer for offer, attempt in tries.items() if hold_of(at, attempt) is None]


def held(at: Look, tries: Mapping[Offer, Attempt]) -> Decision:
    """Let the run wait for a person: it orders nothing, costs nothing and asks nobody."""
    first, attempt = next(iter(tries.items()))
    hold = hold_of(at, attempt)
    if hold is None:
        raise ValueError(f"run {at.run.id} waits for nobody")
    # The same kind of machine costs more in some places: one yes is for all of them.
    alike = [one for offer, one in tries.items() if _kind(offer) == _kind(first)]
    most = max(_need_usd(at, one) for one in alike)
    hold = replace(hold, cap_usd=max(hold.cap_usd, most.quantize(_CENT, ROUND_CEILING)))
    return still_held(replace(at, run=replace(at.run, hold=hold)), hold)


def _kind(offer: Offer) -> tuple[str | None, int, bool]:
    return offer.gpu_type, offer.gpu_count, offer.spot


def still_held(at: Look, hold: Hold) -> Decision:
    """Go on waiting for a person."""
    reason = Reason(cause=Cause.APPROVAL, text=_held_text(hold.reasons, hold.who))
    late_at = at.run.state_since + HELD_LIMIT
    looks = [moment for moment in (at.now + HELD_LOOK, late_at) if moment > at.now]
    run = replace(at.run, reason=reason, not_before=None)
    return Decision(run=run, look_again_at=min(looks))


def _held_text(reasons: Sequence[str], who: str) -> str:
    return f"waits for approval, since {' and '.join(reasons)}; {who} may approve it"


def turn_text(at: Look) -> str | None:
    """Say why it is not the run's turn yet; None: it is, or nobody takes turns."""
    limit = live_limit(at)
    if limit is None or at.seen.live_runs < limit:
        return None
    runs = "1 run" if at.seen.live_runs == 1 else f"{at.seen.live_runs} runs"
    return (
        f"{runs} of this repository have instances, and its policy allows {limit} at once"
        " (limits/live_runs)"
    )


def live_limit(at: Look) -> int | None:
    """Return how many runs of the repository may have instances at once; None: any number."""
    return at.seen.policy.policy.limits.live_runs if at.seen.policy is not None else None
