"""Wait for the agents of an attempt; repeat creates that were not answered."""

from __future__ import annotations

from datetime import datetime, timedelta

from cynthus.frozen import replace
from webhook_server.runs.commands import Command, Decision
from webhook_server.runs.faults import next_question_at, trouble
from webhook_server.runs.lending import Denial, Fate, Gone, Refusal, Scope
from webhook_server.runs.limits import limit_reached
from webhook_server.runs.look import (
    Try,
    ask,
    ask_at,
    between,
    cancelled,
    current_create,
    end,
    notice,
    refusal_of,
    step,
    with_attempt,
)
from webhook_server.runs.model import Cause, Member, Reason, State, Verdict
from webhook_server.runs.observations import CreateOutcome, CreateSeen, ProviderSeen
from webhook_server.runs.verdict import by_fate, failed, lost, of_rank, stopped
from webhook_server.runs.waiting import create
from webhook_server.runs.warm import TAKE_OVER

# Asked after 1, 2, 4, 8 … s: a stock-out is told within seconds, a boot takes a minute.
_FIRST_ASK = timedelta(seconds=1)


def provision(at: Try) -> Decision:
    """Wait for the agents; one instance that cannot be had gives all of a gang back."""
    refused = _refused(at)
    if refused is not None:
        at = with_attempt(at, replace(at.attempt, refusal=refused))
    ended = _end_of_boot(at, refused)
    if ended is not None:
        return end(at, ended)
    if all(at.agent(member) is not None for member in at.attempt.members):
        return _start(at)
    return _go_on(at)


def _refused(at: Try) -> Refusal | None:
    """Return the gravest refusal: one that no other place mends, or else the widest."""
    found = [
        refusal
        for member in at.attempt.members
        if at.agent(member) is None and (refusal := _refusal(at, member)) is not None
    ]
    return max(found, key=lambda refusal: (_is_final(refusal), _REACH[refusal.scope]), default=None)


_REACH = {Scope.ZONE: 0, Scope.REGION: 1, Scope.EVERYWHERE: 2}


def _refusal(at: Try, member: Member) -> Refusal | None:
    seen = at.of(member)
    create_ = current_create(member, seen)
    told = seen.provider
    if told is not None and told.refusal is not None and told.asked_at >= member.last_try_at:
        return told.refusal
    return refusal_of(seen) if create_ is not None else None


def _is_final(refusal: Refusal) -> bool:
    if refusal.denial is Denial.MISCONFIGURED:
        return True
    return refusal.denial is Denial.QUOTA and refusal.scope is Scope.EVERYWHERE


def _end_of_boot(at: Try, refused: Refusal | None) -> Verdict | None:
    if at.seen.cancel is not None:
        return cancelled(at, at.seen.cancel)
    limit = limit_reached(at.run, at.spec, at.now, at.policy)
    if limit is not None:
        return stopped(limit.cause, limit.text)
    if refused is not None:
        if _is_final(refused):
            return failed(Cause.REFUSED, refused.text or "the provider refused")
        return lost(Cause.NO_CAPACITY, refused.text or f"no capacity in {at.attempt.offer.place}")
    for member in at.attempt.members:
        why = _fault(at, member)
        if why is not None:
            return of_rank(member.rank, at.nodes, why)
    return None


def _fault(at: Try, member: Member) -> Verdict | None:
    if at.agent(member) is not None:
        return trouble(at, member) if at.nodes > 1 else None
    return _late(at, member) or _vanished(at, member)


def _late(at: Try, member: Member) -> Verdict | None:
    """Return why a member is given up that takes too long, by the step that it hangs in."""
    policy, ordered_at = at.policy, at.attempt.ordered_at
    told = at.of(member).provider
    waits = told is not None and told.fate is Fate.STARTING
    if at.attempt.offer.warm and at.now >= ordered_at + TAKE_OVER:
        return lost(Cause.BOOT, f"the warm instance did not take up the work within {TAKE_OVER}")
    if waits and member.provided_at is None and at.now >= ordered_at + policy.provision_limit:
        text = f"{at.attempt.offer.place} did not provide it within {policy.provision_limit}"
        return lost(Cause.BOOT, text)
    if at.now < ordered_at + policy.boot_limit:
        return None
    text = f"the agent did not come within {policy.boot_limit}"
    if member.provided_at is not None:
        text += f": the instance runs since {member.provided_at:%H:%M:%S} UTC"
    return lost(Cause.BOOT, f"{text}: {told.detail}" if told and told.detail else text)


def _vanished(at: Try, member: Member) -> Verdict | None:
    told, create_ = at.of(member).provider, current_create(member, at.of(member))
    if told is None or create_ is None or told.asked_at < create_.at:
        return None
    if told.gone is Gone.PRESENT and not told.alive:
        return by_fate(told.fate, told.detail, "the instance stopped while it booted")
    if told.gone is Gone.ABSENT and _is_certain(at, told, create_):
        return by_fate(told.fate, told.detail, "the instance vanished while it booted")
    return None


def _is_certain(at: Try, told: ProviderSeen, create_: CreateSeen) -> bool:
    # A new instance may be invisible, but one whose end is on record is not.
    return told.fate is not None or told.asked_at >= create_.at + at.policy.visible_after


def _start(at: Try) -> Decision:
    agents = [agent for m in at.attempt.members if (agent := at.agent(m)) is not None]
    started_at = min(agent.enrolled_at for agent in agents)
    started = with_attempt(at, replace(at.attempt, started_at=started_at))
    reason = Reason(cause=Cause.PROGRESS, text=f"running {_at_place(at)}")
    run = step(started.run, State.RUNNING, reason, at.now)
    if any(agent.engine == "process" for agent in agents):
        run = notice(run, "no Docker engine: the command runs as a plain process")
    return Decision(run=run, look_again_at=at.now)


def _at_place(at: Try) -> str:
    offer = at.attempt.offer
    count = "" if at.nodes == 1 else f"on {at.nodes} instances "
    return (
        f"{count}on {offer.place}" if offer.machine == offer.place else f"{count}in {offer.place}"
    )


def _go_on(at: Try) -> Decision:
    """Repeat what was not answered, ask after what was; look at every deadline."""
    commands: list[Command] = []
    looks: list[datetime] = _deadlines(at)
    members: list[Member] = []
    asked: list[tuple[Member, datetime]] = []
    for member in at.attempt.members:
        kept = member
        if at.agent(member) is not None:
            asked.append((member, next_question_at(at, member)))
        elif (due_at := _repeat_at(at, member)) is None:
            asked.append((member, _boot_ask_at(at, member)))
        elif at.now < due_at:
            looks.append(due_at)
        else:
            # The time of this try is saved before it is made: deletion waits from here.
            kept = replace(member, last_try_at=at.now, create_answered=False)
            commands.append(create(at, at.attempt, kept))
            looks.append(at.now + at.policy.create_patience)
        members.append(kept)
    at = with_attempt(at, replace(at.attempt, members=tuple(members)))
    questions = ask(at, asked, *looks)
    return replace(questions, commands=(*commands, *questions.commands))


def _deadlines(at: Try) -> list[datetime]:
    ordered_at, policy = at.attempt.ordered_at, at.policy
    taken = [ordered_at + TAKE_OVER] if at.attempt.offer.warm else []
    return [*taken, ordered_at + policy.provision_limit, ordered_at + policy.boot_limit]


def _repeat_at(at: Try, member: Member) -> datetime | None:
    """Return when the member's create is due again, or None when it was answered."""
    create_ = current_create(member, at.of(member))
    if create_ is None:
        return member.last_try_at + at.policy.create_patience
    if create_.outcome is CreateOutcome.UNKNOWN:
        return create_.at + at.policy.ask_every
    return None


def _boot_ask_at(at: Try, member: Member) -> datetime:
    create_ = at.of(member).create
    ordered_at = create_.at if create_ is not None else member.last_try_at
    first_at = ordered_at + _FIRST_ASK
    told = at.of(member).provider
    if told is None or told.asked_at < first_at:
        return first_at
    if member.provided_at is not None:
        return ask_at(at, member, first_at, at.policy.ask_booting)
    every = between(_FIRST_ASK, told.asked_at - ordered_at, at.policy.ask_every)
    return ask_at(at, member, first_at, every)
