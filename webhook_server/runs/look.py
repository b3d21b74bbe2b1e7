"""One look at one run, with the steps that every state shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire import AgentState
from webhook_server.runs.commands import (
    AskProvider,
    CloseAttempt,
    Command,
    Decision,
    DeleteInstance,
)
from webhook_server.runs.gate import failure_text, judge
from webhook_server.runs.lending import Fate, Gone, Refusal
from webhook_server.runs.limits import next_limit, used_attempts
from webhook_server.runs.model import Attempt, Cause, Member, Outcome, Reason, Run, State, Verdict
from webhook_server.runs.observations import (
    AgentSeen,
    CancelWish,
    CreateOutcome,
    CreateSeen,
    GateSeen,
    InstanceSeen,
    Observations,
)
from webhook_server.runs.policy import Policy
from webhook_server.runs.superseded import saving
from webhook_server.runs.verdict import failed, stopped
from webhook_server.runs.warm import keep_until

#: Where a run may go from each state.
STEPS: Mapping[State, frozenset[State]] = {
    State.BUILDING: frozenset({State.QUEUED, State.FINISHED}),
    State.QUEUED: frozenset({State.PROVISIONING, State.RELEASING, State.FINISHED}),
    State.PROVISIONING: frozenset({State.RUNNING, State.RELEASING}),
    State.RUNNING: frozenset({State.COLLECTING, State.RELEASING}),
    State.COLLECTING: frozenset({State.RELEASING}),
    State.RELEASING: frozenset({State.QUEUED, State.FINISHED}),
    State.FINISHED: frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at one run."""

    run: Run
    spec: Spec
    seen: Observations
    now: datetime
    policy: Policy


@dataclass(frozen=True, kw_only=True)
class Try(Look):
    """One look at a run that has an attempt."""

    attempt: Attempt

    @property
    def nodes(self) -> int:
        """Return how many instances the attempt has."""
        return len(self.attempt.members)

    def of(self, member: Member) -> InstanceSeen:
        """Return what is seen of one of its instances."""
        return self.seen.of(member.name)

    def agent(self, member: Member) -> AgentSeen | None:
        """Return what its agent reports, once it has enrolled."""
        return self.of(member).agent


# ── what is noted of instances ──────────────────────────────────────────────────────────────────


def noted(run: Run, seen: Observations) -> Run:
    """Write down what was seen of every instance and must outlast the next observation."""
    return replace(
        run,
        attempts=tuple(
            attempt
            if attempt.gone_at is not None
            else replace(
                attempt,
                members=tuple(_noted(attempt, m, seen.of(m.name)) for m in attempt.members),
            )
            for attempt in run.attempts
        ),
    )


def _noted(attempt: Attempt, member: Member, seen: InstanceSeen) -> Member:
    create, agent = current_create(member, seen), seen.agent
    member = _existing(member, seen)
    # A new instance that was seen is the answer too; a warm one was there before it was asked for.
    certain = member.seen_at is not None and not attempt.offer.warm
    certain = certain or (create is not None and create.outcome is not CreateOutcome.UNKNOWN)
    if certain and member.last_try_at == attempt.ordered_at:
        member = replace(member, create_answered=True)  # then no late one can make an instance
    if agent is not None and member.started_at is None:
        member = replace(member, started_at=agent.enrolled_at)
    if agent is not None and is_over(agent) and member.quiet_at is None:
        member = replace(member, quiet_at=agent.exit_at or agent.heartbeat_at)
    if seen.create is not None and refusal_of(seen) is not None and seen.closed and not agent:
        member = replace(member, quiet_at=member.quiet_at or seen.create.at)
    return member


def _existing(member: Member, seen: InstanceSeen) -> Member:
    told = seen.provider
    if told is None:
        return member
    if told.shown or told.gone is Gone.PRESENT:
        member = replace(member, seen_at=member.seen_at or told.asked_at)
    if told.gone is Gone.PRESENT and told.alive and told.fate is Fate.RUNNING:
        member = replace(member, provided_at=member.provided_at or told.asked_at)
    return member


def is_over(agent: AgentSeen | None) -> bool:
    """Say whether the command has ended there, as its agent reports."""
    return agent is not None and (agent.exit is not None or agent.state is AgentState.DONE)


def current_create(member: Member, seen: InstanceSeen) -> CreateSeen | None:
    """Return the answer to the newest create, not one to an earlier."""
    create = seen.create
    return create if create is not None and create.at >= member.last_try_at else None


def refusal_of(seen: InstanceSeen) -> Refusal | None:
    """Return why the order of this instance was not met, if it was not."""
    if seen.provider is not None and seen.provider.refusal is not None:
        return seen.provider.refusal
    return seen.create.refusal if seen.create is not None else None


# ── steps ───────────────────────────────────────────────────────────────────────────────────────


def end(at: Try, why: Verdict) -> Decision:
    """End the attempt and begin to give its instances back, or keep one for the next run."""
    if why.outcome is Outcome.SUCCEEDED and at.spec.gate:
        at, why = _gated(at, why)
    ended = replace(at.attempt, ended_at=at.now, reason=why.reason, lost=why.outcome is None)
    ended = _kept(at, ended, why)
    run = with_attempt(at, ended).run
    outcome, reason = why.outcome, why.reason
    total = at.spec.retry.attempts
    if outcome is None and used_attempts(run, at.policy) >= total:
        outcome = why.last_resort
        if total > 1:
            reason = replace(reason, text=f"{reason.text}; no attempt is left ({total} made)")
    run = replace(step(run, State.RELEASING, reason, at.now), outcome=outcome)
    # At once where nothing is waited for: a replacement does not wait for the deletion beside it.
    at_once = not ended.living or (outcome is None and is_quiet(ended))
    again_at = at.now if at_once else at.now + at.policy.delete_retry
    return Decision(run=run, commands=give_back(ended), look_again_at=again_at)


def _gated(at: Try, why: Verdict) -> tuple[Try, Verdict]:
    """Let a run that ended well fail where its metrics miss what the spec demands of them."""
    seen = at.seen.gate or GateSeen(metrics={}, baseline=None)  # nothing told: nothing is met
    result = judge(at.spec.gate, seen)
    run = replace(at.run, gate_lines=result.lines, baseline_run=seen.baseline_run)
    why = failed(Cause.GATE, failure_text(result)) if result.failed else why
    return replace(at, run=run), why


def _kept(at: Try, ended: Attempt, why: Verdict) -> Attempt:
    """Hand the instance over to those that wait, where the spec says so: it is ours no more."""
    if not at.policy.powers.keep_warm or may_come_twice(ended, ended.members[0], at):
        return ended
    until = keep_until(at.run, ended, why, at.agent(ended.members[0]), at.now)
    if until is None:
        return ended
    members = tuple(replace(member, gone_at=at.now) for member in ended.members)
    return replace(ended, kept_until=until, members=members)


def may_come_twice(attempt: Attempt, member: Member, at: Try) -> bool:
    """Say whether what was ordered may still come, although it has come or gone.

    Whoever keeps it would have no reason to look for a second one of its name.
    """
    return is_in_doubt(attempt, member, at.policy) and at.now < member.last_try_at + at.policy.grace


def is_in_doubt(attempt: Attempt, member: Member, policy: Policy) -> bool:
    """Say whether a create was sent whose answer nobody has.

    Of a create that was sent twice one may be late, unless both are one for the provider: then the
    instance that it told of is what came of both.
    """
    is_one = policy.one_create and member.seen_at is not None and not attempt.offer.warm
    return not member.create_answered and not is_one


def is_quiet(attempt: Attempt) -> bool:
    """Say whether nothing of the run executes any more on any of its instances."""
    return all(m.quiet_at is not None or m.gone_at is not None for m in attempt.members)


def give_back(attempt: Attempt) -> tuple[Command, ...]:
    """Return the commands that end all of an attempt that may still exist."""
    # Of a kept one too: what its agent asks for from now on is other work.
    closing = attempt.members if attempt.kept_until is not None else attempt.living
    return (
        *(CloseAttempt(name=member.name) for member in closing),
        *(c for member in attempt.living for c in delete(attempt, member)),
    )


def delete(attempt: Attempt, member: Member) -> tuple[Command, ...]:
    """Return the commands that give one instance back."""
    provider, machine = attempt.offer.provider, attempt.offer.warm
    return (
        DeleteInstance(provider=provider, name=member.name, machine=machine),
        AskProvider(provider=provider, name=member.name, machine=machine),
    )


def finish(run: Run, why: Verdict, now: datetime) -> Decision:
    """Set the outcome: the run is finished, once no instance of an earlier attempt exists."""
    outcome = run.outcome or why.outcome or why.last_resort
    reason = why.reason if run.outcome is None else run.reason
    run = replace(run, outcome=outcome, reason=reason)
    if run.living:
        return Decision(run=step(run, State.RELEASING, reason, now), look_again_at=now)
    return Decision(run=finished(run, now))


def finished(run: Run, now: datetime) -> Run:
    """Return the run as nothing changes it any more."""
    return replace(run, state=State.FINISHED, state_since=now, finished_at=now)


def step(run: Run, state: State, reason: Reason, now: datetime) -> Run:
    """Return the run in another state."""
    since = run.state_since if state is run.state else now
    return replace(run, state=state, state_since=since, reason=reason)


def with_attempt(at: Try, attempt: Attempt) -> Try:
    """Return the look with its attempt changed."""
    run = replace(at.run, attempts=(*at.run.attempts[:-1], attempt))
    return replace(at, run=run, attempt=attempt)


def notice(run: Run, text: str) -> Run:
    """Tell the user something, once."""
    return run if text in run.notices else replace(run, notices=(*run.notices, text))


def cancelled(at: Look, wish: CancelWish) -> Verdict:
    """Judge a run that somebody ended, or that the policy ends because it is outdated."""
    if not wish.superseded:
        return stopped(Cause.CANCELLED, f"cancelled by {wish.by}")
    saved = saving(at.run, at.spec, at.now, at.policy)
    return stopped(Cause.SUPERSEDED, f"superseded by {wish.by}: {saved}")


# ── when to look again ──────────────────────────────────────────────────────────────────────────


def soonest(at: Look, *moments: datetime) -> datetime:
    """Return the first of the moments to come, the spec's own limits among them."""
    limit = next_limit(at.run, at.spec, at.now, at.policy)
    coming = [moment for moment in moments if moment > at.now]
    if limit is not None:
        coming.append(limit.at)
    return min(coming)


def ask(at: Try, whom: Iterable[tuple[Member, datetime]], *deadlines: datetime) -> Decision:
    """Ask the provider after each member from its moment on; look at every deadline."""
    commands: list[Command] = []
    looks = list(deadlines)
    for member, due_at in whom:
        if at.now >= due_at:
            booting = at.agent(member) is None
            commands.append(
                AskProvider(
                    provider=at.attempt.offer.provider,
                    name=member.name,
                    machine=at.attempt.offer.warm,
                    offer=at.attempt.offer if booting else None,
                )
            )
            looks.append(at.now + at.policy.ask_every)
        else:
            looks.append(due_at)
    return Decision(run=at.run, commands=tuple(commands), look_again_at=soonest(at, *looks))


def ask_at(at: Try, member: Member, first_at: datetime, every: timedelta) -> datetime:
    """Return when to ask after a member: from `first_at` on, again and again."""
    told = at.of(member).provider
    if told is None or told.asked_at < first_at or told.asked_at > at.now:
        return first_at
    return told.asked_at + every


def between(least: timedelta, value: timedelta, most: timedelta) -> timedelta:
    """Return the value, kept within two bounds."""
    return max(least, min(value, most))


def clock(moment: datetime) -> str:
    """Say a moment as people read it."""
    return f"{moment:%H:%M:%S} UTC"
