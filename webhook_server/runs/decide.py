"""Say what to do next with a run: a pure function of the run, what is seen of it, and the time.

It looks at what is, never at what happened: a lost event costs a delay and never a wrong state.
Each state has one function, and each decision makes at most one step along

    building → queued → provisioning → running → collecting → releasing → finished

with the short cuts that `STEPS` lists. "At once" (`look_again_at == now`) follows a step only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cynthus.spec import Spec
from cynthus.wire import AgentState, Output
from webhook_server.runs.commitment import Purse, committed_usd, next_attempt
from webhook_server.runs.commitment import refusal as money_refusal
from webhook_server.runs.honour import notices, refusal
from webhook_server.runs.limits import (
    Limit,
    allowed,
    backoff,
    cost,
    gone_at,
    limit_reached,
    money_spent,
    next_limit,
    pick,
    settled_at,
    used_attempts,
)
from webhook_server.runs.model import (
    AgentSeen,
    AskProvider,
    Attempt,
    Cause,
    CloseAttempt,
    Command,
    CreateInstance,
    CreateOutcome,
    CreateSeen,
    Decision,
    DeleteInstance,
    Gone,
    Observations,
    Offer,
    Order,
    Outcome,
    ProviderSeen,
    Reason,
    ReleaseState,
    Run,
    State,
    StopWork,
    deserves_release,
)
from webhook_server.runs.policy import CLOUD, Policy
from webhook_server.runs.verdict import (
    Verdict,
    failed,
    lost,
    own_stop,
    spec_fault_text,
    stopped,
    verdict,
)

#: Where a run may go from each state.
STEPS: Mapping[State, frozenset[State]] = {
    State.BUILDING: frozenset({State.QUEUED, State.FINISHED}),
    State.QUEUED: frozenset({State.PROVISIONING, State.FINISHED}),
    State.PROVISIONING: frozenset({State.RUNNING, State.RELEASING}),
    State.RUNNING: frozenset({State.COLLECTING, State.RELEASING}),
    State.COLLECTING: frozenset({State.RELEASING}),
    State.RELEASING: frozenset({State.QUEUED, State.FINISHED}),
    State.FINISHED: frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One look at one run."""

    run: Run
    spec: Spec
    seen: Observations
    now: datetime
    policy: Policy


@dataclass(frozen=True, kw_only=True)
class _Try(_Pass):
    """One look at a run that has an attempt."""

    attempt: Attempt


def decide(run: Run, seen: Observations, now: datetime, policy: Policy = CLOUD) -> Decision:
    """Say what to save, what to do and when to look again. Equal inputs, equal Decision."""
    if run.state is State.FINISHED:
        return Decision(run=run)
    if run.spec is None:
        return park(run, now, failed(Cause.SPEC, spec_fault_text(run)))
    decision = _decide(run, run.spec, seen, now, policy)
    decided = replace(decision.run, cost_usd=cost(decision.run, now))
    most = committed_usd(decided, allowed(run.spec, policy), now, policy)
    return replace(decision, run=decided, commitment_usd=most)


def _decide(run: Run, spec: Spec, seen: Observations, now: datetime, policy: Policy) -> Decision:
    if run.state in {State.BUILDING, State.QUEUED}:
        refused = refusal(spec, policy.powers)
        if refused is not None:
            return _finish(run, failed(Cause.REFUSED, refused), now)
        for text in notices(spec, policy.powers):
            run = _notice(run, text)
    spec = allowed(spec, policy)
    if run.state is State.BUILDING:
        return _build(_Pass(run=run, spec=spec, seen=seen, now=now, policy=policy))
    if run.state is State.QUEUED:
        return _queue(_Pass(run=run, spec=spec, seen=seen, now=now, policy=policy))
    if run.attempt is None:
        return park(run, now, lost(Cause.SERVER, "the record of this run has no attempt"))
    look = {
        State.PROVISIONING: _provision,
        State.RUNNING: _watch,
        State.COLLECTING: _collect,
        State.RELEASING: _release,
    }[run.state]
    return look(_Try(run=run, spec=spec, attempt=run.attempt, seen=seen, now=now, policy=policy))


def park(run: Run, now: datetime, why: Verdict | None = None) -> Decision:
    """End a run that cannot be handled: its instance is given back, then it is finished.

    Safe to repeat; an outcome that is set stays.
    """
    if run.state is State.FINISHED:
        return Decision(run=run)
    text = "the server failed to handle this run; its instance is given back"
    why = why or lost(Cause.SERVER, text)
    attempt = run.attempt
    if attempt is None or attempt.gone_at is not None:
        return _finish(run, why, now)
    ended = replace(attempt, ended_at=attempt.ended_at or now, reason=attempt.reason or why.reason)
    parked = _step(
        replace(run, attempts=(*run.attempts[:-1], ended)),
        State.RELEASING,
        why.reason if run.outcome is None else run.reason,
        now,
    )
    if parked.outcome is None:
        parked = replace(parked, outcome=why.outcome or why.last_resort)
    return Decision(run=parked, commands=_give_back(ended), look_again_at=now + CLOUD.delete_retry)


# ── building ────────────────────────────────────────────────────────────────────────────────────


def _build(at: _Pass) -> Decision:
    """Wait for the Action's image."""
    run, now, image = at.run, at.now, at.seen.image
    if at.seen.cancel is not None:
        return _finish(run, _cancelled(at.seen.cancel.by), now)
    if image is not None and image.image is not None:
        reason = Reason(cause=Cause.PROGRESS, text="waiting for an instance")
        queued = replace(_step(run, State.QUEUED, reason, now), image=image.image)
        return Decision(run=queued, look_again_at=now)
    if image is not None:
        return _finish(run, failed(Cause.BUILD, image.failure or "the build failed"), now)
    if at.seen.offers_refusal is not None:  # better now than after an image was built for nothing
        return _finish(run, failed(Cause.REFUSED, at.seen.offers_refusal), now)
    late_at = run.created_at + at.policy.build_limit
    if now >= late_at:
        text = f"no image came within {at.policy.build_limit}: look at the workflow run"
        return _finish(run, failed(Cause.BUILD, text), now)
    return Decision(run=run, look_again_at=late_at)


# ── queued ──────────────────────────────────────────────────────────────────────────────────────


def _queue(at: _Pass) -> Decision:
    """Wait for an instance, then order it."""
    run, now, seen = at.run, at.now, at.seen
    if seen.cancel is not None:
        return _finish(run, _cancelled(seen.cancel.by), now)
    limit = limit_reached(run, at.spec, now, at.policy)
    if limit is not None:
        return _finish(run, stopped(limit.cause, limit.text), now)
    if run.not_before is not None and now < run.not_before:
        return Decision(run=run, look_again_at=_soonest(at, run.not_before))
    if seen.offers_refusal is not None:
        return _finish(run, failed(Cause.REFUSED, seen.offers_refusal), now)
    if seen.offers:
        return _order_payable(at, seen.offers)
    return _wait_for_offers(at)


def _wait_for_offers(at: _Pass) -> Decision:
    run, now, policy = at.run, at.now, at.policy
    unknown = at.seen.offers is None
    text = "the provider does not answer" if unknown else "no instance is free"
    if at.seen.offers_detail:
        text = f"{text}: {at.seen.offers_detail}"
    late_at = run.state_since + policy.capacity_limit
    if now >= late_at:
        text = f"{text} (for {policy.capacity_limit})"
        return _finish(run, lost(Cause.NO_CAPACITY, text), now)
    waiting = replace(run, reason=Reason(cause=Cause.NO_CAPACITY, text=text))
    # As long again as it has waited: 1, 2, 4 … s without a counter.
    pause = _between(timedelta(seconds=1), now - run.state_since, policy.slowest_offer_look)
    return Decision(run=waiting, look_again_at=_soonest(at, min(now + pause, late_at)))


def _order_payable(at: _Pass, offers: Sequence[Offer]) -> Decision:
    """Order the best of the offers that can be paid; say what is missing when none can."""
    run, purse = at.run, Purse(spec=at.spec, budgets=at.seen.budgets, policy=at.policy)
    tries = {offer: next_attempt(run, offer, purse, at.now) for offer in offers}
    refused = {offer: money_refusal(run, attempt, purse) for offer, attempt in tries.items()}
    payable = [offer for offer in offers if refused[offer] is None]
    best = pick(run, payable or offers)
    why = refused[best]
    if why is not None:
        return _finish(run, stopped(why.cause, why.text), at.now)
    return _order(at, tries[best])


def _order(at: _Pass, attempt: Attempt) -> Decision:
    """Save the attempt, with the time of the try, before anything is created."""
    run, now, offer = at.run, at.now, attempt.offer
    where = "" if offer.machine == offer.place else f" in {offer.place} ({offer.provider})"
    text = f"waiting for {offer.machine}{where}"
    reason = Reason(cause=Cause.PROGRESS, text=text)
    ordered = replace(
        _step(run, State.PROVISIONING, reason, now),
        attempts=(*run.attempts, attempt),
        not_before=None,
    )
    after = now + at.policy.create_patience
    return Decision(
        run=ordered,
        commands=(_create(replace(at, run=ordered), attempt),),
        look_again_at=_soonest(replace(at, run=ordered), after),
        budgets=at.seen.budgets,
    )


def _create(at: _Pass, attempt: Attempt) -> CreateInstance:
    order = Order(
        name=attempt.instance,
        run_id=at.run.id,
        attempt=attempt.number,
        repository_id=at.run.key.repository_id,
        offer=attempt.offer,
        need=at.spec.resources,
        max_life=attempt.max_life,
    )
    return CreateInstance(order=order)


# ── provisioning ────────────────────────────────────────────────────────────────────────────────


def _provision(at: _Try) -> Decision:
    """Wait for the agent; repeat a create that was not answered."""
    at = _note_create(at)
    ended = _end_of_boot(at)
    if ended is not None:
        return _end(at, ended)
    if at.seen.agent is not None:
        return _start(at, at.seen.agent)
    create = _current_create(at)
    if create is None or create.outcome is CreateOutcome.UNKNOWN:
        return _repeat_create(at, create)
    return _watch_boot(at, create)


def _note_create(at: _Try) -> _Try:
    """Remember that every create was answered: then no late one can make an instance."""
    create, attempt = _current_create(at), at.attempt
    certain = create is not None and create.outcome is not CreateOutcome.UNKNOWN
    if not certain or attempt.last_try_at != attempt.ordered_at:
        return at
    return _with(at, replace(attempt, create_answered=True))


def _current_create(at: _Try) -> CreateSeen | None:
    """Return the answer to the newest create, not one to an earlier."""
    create = at.seen.create
    return create if create is not None and create.at >= at.attempt.last_try_at else None


def _end_of_boot(at: _Try) -> Verdict | None:
    seen, create = at.seen, _current_create(at)
    if seen.cancel is not None:
        return _cancelled(seen.cancel.by)
    limit = limit_reached(at.run, at.spec, at.now, at.policy)
    if limit is not None:
        return stopped(limit.cause, limit.text)
    if seen.agent is not None:
        return None
    if create is not None and create.outcome is CreateOutcome.REFUSED:
        return failed(Cause.REFUSED, create.detail or "the provider refused")
    if create is not None and create.outcome is CreateOutcome.NO_CAPACITY:
        return lost(Cause.NO_CAPACITY, create.detail or f"no capacity in {at.attempt.offer.place}")
    if at.now >= _boot_deadline(at):
        return lost(Cause.BOOT, f"the agent did not come within {at.policy.boot_limit}")
    return _vanished(at, create)


def _vanished(at: _Try, create: CreateSeen | None) -> Verdict | None:
    provider = at.seen.provider
    if provider is None or create is None or provider.asked_at < create.at:
        return None
    if provider.gone is Gone.PRESENT and not provider.alive:
        return lost(Cause.GONE, provider.detail or "the instance stopped while it booted")
    visible_at = create.at + at.policy.visible_after
    if provider.gone is Gone.ABSENT and provider.asked_at >= visible_at:
        return lost(Cause.GONE, "the instance vanished while it booted")
    return None


def _boot_deadline(at: _Try) -> datetime:
    return at.attempt.ordered_at + at.policy.boot_limit


def _start(at: _Try, agent: AgentSeen) -> Decision:
    started = _with(at, replace(at.attempt, started_at=agent.enrolled_at))
    reason = Reason(cause=Cause.PROGRESS, text=f"running {_at_place(at)}")
    run = _step(started.run, State.RUNNING, reason, at.now)
    if agent.engine == "process":
        run = _notice(run, "no Docker engine: the command runs as a plain process")
    return Decision(run=run, look_again_at=at.now)


def _at_place(at: _Try) -> str:
    offer = at.attempt.offer
    return f"on {offer.place}" if offer.machine == offer.place else f"in {offer.place}"


def _repeat_create(at: _Try, create: CreateSeen | None) -> Decision:
    policy, attempt = at.policy, at.attempt
    due_at = attempt.last_try_at + policy.create_patience
    if create is not None:
        due_at = create.at + policy.ask_every
    if at.now < due_at:
        return Decision(run=at.run, look_again_at=_soonest(at, due_at, _boot_deadline(at)))
    # The time of this try is saved before it is made: deletion waits from here.
    tried = _with(at, replace(attempt, last_try_at=at.now, create_answered=False))
    again_at = at.now + policy.create_patience
    return Decision(
        run=tried.run,
        commands=(_create(tried, tried.attempt),),
        look_again_at=_soonest(tried, again_at, _boot_deadline(tried)),
    )


def _watch_boot(at: _Try, create: CreateSeen) -> Decision:
    first_at = create.at + at.policy.visible_after
    return _ask(at, first_at, _boot_deadline(at))


# ── running ─────────────────────────────────────────────────────────────────────────────────────


def _watch(at: _Try) -> Decision:
    """Watch the agent until the command has ended, or until we end it."""
    agent = at.seen.agent
    if agent is not None and (agent.exit is not None or agent.state is AgentState.DONE):
        return _ended_by_itself(at, agent)
    why_lost = _silent(at)
    if why_lost is not None:
        return _end(at, why_lost)
    if at.attempt.stop_at is None:
        at = _stop_if_due(at)
    if at.attempt.stop_at is not None:
        return _wait_for_stop(at, at.attempt.stop_at)
    return _ask(at, _suspect_at(at), _lost_at(at))


def _ended_by_itself(at: _Try, agent: AgentSeen) -> Decision:
    done = agent.state is AgentState.DONE
    at = _with(at, replace(at.attempt, exit=agent.exit))
    if agent.exit is None and done:
        return _end(at, _judge(at))
    reason = Reason(cause=Cause.PROGRESS, text="collecting the outputs")
    return Decision(run=_step(at.run, State.COLLECTING, reason, at.now), look_again_at=at.now)


def _judge(at: _Try) -> Verdict:
    preempted = at.seen.agent is not None and at.seen.agent.preempted
    return verdict(at.run, at.spec, at.attempt, preempted=preempted, now=at.now)


def _silent(at: _Try) -> Verdict | None:
    """Return why the attempt is lost, if its agent is silent for too long."""
    if at.now < _suspect_at(at):
        return None
    provider = at.seen.provider
    asked = provider is not None and provider.asked_at >= _suspect_at(at)
    if provider is not None and asked:
        why = _gone_or_dead(at, provider)
        if why is not None:
            return why
    if at.now < _lost_at(at):
        return None
    silence = _clock(_heard_at(at))
    return own_stop(at.attempt) or lost(Cause.SILENT, f"no heartbeat since {silence}")


def _gone_or_dead(at: _Try, provider: ProviderSeen) -> Verdict | None:
    agent = at.seen.agent
    if provider.gone is Gone.ABSENT or (provider.gone is Gone.PRESENT and not provider.alive):
        if agent is not None and agent.preempted:
            why = lost(Cause.PREEMPTED, "the instance was taken back by its owner")
        else:
            detail = f": {provider.detail}" if provider.detail else ""
            why = lost(Cause.GONE, f"the instance is gone{detail}")
        return own_stop(at.attempt) or why
    return None


def _heard_at(at: _Try) -> datetime:
    """Return when the agent was last heard; silence while nobody listened does not count."""
    agent = at.seen.agent
    heard_at = agent.heartbeat_at if agent else at.attempt.started_at or at.attempt.ordered_at
    return max(heard_at, at.seen.listening_since or heard_at)


def _suspect_at(at: _Try) -> datetime:
    return _heard_at(at) + at.policy.suspect_after


def _lost_at(at: _Try) -> datetime:
    return _heard_at(at) + at.policy.silence_limit


def _stop_if_due(at: _Try) -> _Try:
    cancel, limit = at.seen.cancel, limit_reached(at.run, at.spec, at.now, at.policy)
    if cancel is not None:
        why = _cancelled(cancel.by)
    elif limit is not None:
        why = stopped(limit.cause, limit.text)
    else:
        return at
    stopping = replace(
        at.attempt, stop_at=at.now, stop_reason=why.reason.text, stop_cause=why.reason.cause
    )
    at = _with(at, stopping)
    return replace(at, run=replace(at.run, reason=why.reason))


def _wait_for_stop(at: _Try, stop_at: datetime) -> Decision:
    """Say "stop" until the agent reports the end; give the instance back if it does not."""
    late_at = stop_at + at.policy.stop_limit
    if at.now >= late_at:
        return _end(at, own_stop(at.attempt) or _judge(at))
    stop = StopWork(name=at.attempt.instance, reason=at.attempt.stop_reason or "stopped")
    decision = _ask(at, _suspect_at(at), min(late_at, _lost_at(at)))
    return replace(decision, commands=(stop, *decision.commands))


# ── collecting ──────────────────────────────────────────────────────────────────────────────────


def _collect(at: _Try) -> Decision:
    """Wait for the outputs; the command has ended already."""
    agent = at.seen.agent
    if agent is not None and agent.state is AgentState.DONE:
        why = _judge(at)
        return _end(at if why.outcome is None else _keep(at, agent.outputs or ()), why)
    uncollected = _uncollectable(at)
    if uncollected is not None:
        return _end(at, uncollected)
    late_at = at.run.state_since + at.policy.collect_limit
    return _ask(at, _suspect_at(at), min(late_at, _lost_at(at)))


def _keep(at: _Try, outputs: tuple[Output, ...]) -> _Try:
    run = replace(at.run, outputs=outputs)
    for output in outputs:
        if output.left_out is not None:
            run = _notice(run, f"{output.path} was not stored: {output.left_out}")
    return replace(at, run=run)


def _uncollectable(at: _Try) -> Verdict | None:
    """Return the verdict without outputs, once they cannot be waited for any longer."""
    limit = money_spent(at.run, at.spec, at.now, at.policy)
    if limit is not None:
        return own_stop(at.attempt) or stopped(limit.cause, limit.text)
    if at.now >= at.run.state_since + at.policy.collect_limit:
        why = failed(Cause.OUTPUTS, f"the outputs did not come within {at.policy.collect_limit}")
    else:
        gone = _silent(at)
        if gone is None:
            return None
        why = lost(Cause.OUTPUTS, f"the outputs were lost: {gone.reason.text}")
    by_exit = _judge(at)
    complete = by_exit.outcome is not Outcome.SUCCEEDED or not at.spec.outputs
    return by_exit if complete else why


# ── releasing ───────────────────────────────────────────────────────────────────────────────────


def _release(at: _Try) -> Decision:
    """Give the instance back until the provider says "not found"; wait for the release."""
    at = _note_create(at)
    if at.run.outcome is None and at.seen.cancel is not None:
        why = _cancelled(at.seen.cancel.by)
        at = replace(at, run=replace(at.run, outcome=why.outcome, reason=why.reason))
    gone = at.attempt.gone_at or gone_at(at.attempt, at.seen, at.policy)
    if gone is None:
        return _delete(at)
    if at.attempt.gone_at is None:
        at = _with(at, replace(at.attempt, gone_at=gone))
    if at.run.outcome is None:
        return _again(at)
    return _conclude(at)


def _delete(at: _Try) -> Decision:
    """Repeat the deletion, ever more slowly; only "not found" ends it, never a failure."""
    now, policy = at.now, at.policy
    ended_at = at.attempt.ended_at or at.run.state_since
    provider = at.seen.provider
    asked_at = provider.asked_at if provider and provider.asked_at >= ended_at else None
    run = at.run
    if now >= ended_at + policy.delete_alert:
        run = _notice(run, f"{at.attempt.offer.provider} has not confirmed the deletion yet")
    if asked_at is None:
        return Decision(
            run=run, commands=_give_back(at.attempt), look_again_at=now + policy.delete_retry
        )
    due_at = asked_at + _between(policy.delete_retry, asked_at - ended_at, policy.slowest_look)
    settled = settled_at(at.attempt, at.seen, policy)
    if asked_at < settled <= now:
        due_at = now
    if now < due_at:
        soonest = min(due_at, settled) if now < settled else due_at
        return Decision(run=run, look_again_at=soonest)
    pause = _between(policy.delete_retry, now - ended_at, policy.slowest_look)
    return Decision(run=run, commands=_give_back(at.attempt), look_again_at=now + pause)


def _again(at: _Try) -> Decision:
    """Queue the run for its next attempt: the old instance is gone."""
    run, attempt = at.run, at.attempt
    why = attempt.reason or run.reason
    not_before = None
    if why.cause is Cause.NO_CAPACITY:
        not_before = at.now + backoff(run, attempt.offer, at.policy)
    queued = _step(run, State.QUEUED, why, at.now)
    return Decision(run=replace(queued, not_before=not_before), look_again_at=at.now)


def _conclude(at: _Try) -> Decision:
    """Finish the run once its release is made, refused, or too late."""
    run, release = at.run, at.seen.release
    if run.key.repository_id == 0 or not deserves_release(run):
        return Decision(run=_finished(run, at.now))
    if release is not None and release.state is not ReleaseState.PENDING:
        note = release.text if release.state is ReleaseState.REFUSED else None
        run = replace(run, release_url=release.url, release_note=note)
        return Decision(run=_finished(run, at.now))
    late_at = (at.attempt.ended_at or run.state_since) + at.policy.release_limit
    if at.now < late_at:
        return Decision(run=run, look_again_at=late_at)
    note = f"GitHub did not take the release within {at.policy.release_limit}"
    return Decision(run=_finished(replace(run, release_note=note), at.now))


# ── steps ───────────────────────────────────────────────────────────────────────────────────────


def _end(at: _Try, why: Verdict) -> Decision:
    """End the attempt and begin to give its instance back."""
    ended = replace(at.attempt, ended_at=at.now, reason=why.reason, lost=why.outcome is None)
    run = _with(at, ended).run
    outcome, reason = why.outcome, why.reason
    total = at.spec.retry.attempts
    if outcome is None and used_attempts(run, at.policy) >= total:
        outcome = why.last_resort
        if total > 1:
            reason = replace(reason, text=f"{reason.text}; no attempt is left ({total} made)")
    run = replace(_step(run, State.RELEASING, reason, at.now), outcome=outcome)
    return Decision(
        run=run, commands=_give_back(ended), look_again_at=at.now + at.policy.delete_retry
    )


def _give_back(attempt: Attempt) -> tuple[Command, ...]:
    provider, name = attempt.offer.provider, attempt.instance
    return (
        CloseAttempt(name=name),
        DeleteInstance(provider=provider, name=name),
        AskProvider(provider=provider, name=name),
    )


def _finish(run: Run, why: Verdict, now: datetime) -> Decision:
    """Finish a run that holds no instance."""
    outcome = run.outcome or why.outcome or why.last_resort
    reason = why.reason if run.outcome is None else run.reason
    return Decision(run=_finished(replace(run, outcome=outcome, reason=reason), now))


def _finished(run: Run, now: datetime) -> Run:
    return replace(run, state=State.FINISHED, state_since=now, finished_at=now)


def _step(run: Run, state: State, reason: Reason, now: datetime) -> Run:
    since = run.state_since if state is run.state else now
    return replace(run, state=state, state_since=since, reason=reason)


def _with(at: _Try, attempt: Attempt) -> _Try:
    run = replace(at.run, attempts=(*at.run.attempts[:-1], attempt))
    return replace(at, run=run, attempt=attempt)


def _notice(run: Run, text: str) -> Run:
    return run if text in run.notices else replace(run, notices=(*run.notices, text))


def _cancelled(by: str) -> Verdict:
    return stopped(Cause.CANCELLED, f"cancelled by {by}")


def _ask(at: _Try, first_at: datetime, *deadlines: datetime) -> Decision:
    """Ask the provider from `first_at` on, again and again; look at every deadline."""
    if at.now < first_at:
        return Decision(run=at.run, look_again_at=_soonest(at, first_at, *deadlines))
    asked_at = at.seen.provider.asked_at if at.seen.provider else None
    if asked_at is not None and first_at <= asked_at <= at.now < asked_at + at.policy.ask_every:
        again_at = asked_at + at.policy.ask_every
        return Decision(run=at.run, look_again_at=_soonest(at, again_at, *deadlines))
    ask = AskProvider(provider=at.attempt.offer.provider, name=at.attempt.instance)
    again_at = at.now + at.policy.ask_every
    return Decision(run=at.run, commands=(ask,), look_again_at=_soonest(at, again_at, *deadlines))


def _soonest(at: _Pass, *moments: datetime) -> datetime:
    """Return the first of the moments to come, the spec's own limits among them."""
    limit: Limit | None = next_limit(at.run, at.spec, at.now, at.policy)
    coming = [moment for moment in moments if moment > at.now]
    if limit is not None:
        coming.append(limit.at)
    return min(coming)


def _between(least: timedelta, value: timedelta, most: timedelta) -> timedelta:
    return max(least, min(value, most))


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
