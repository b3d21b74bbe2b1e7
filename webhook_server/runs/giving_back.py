"""Give instances back until their provider says "not found"; then finish or try again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cynthus.frozen import replace
from webhook_server.runs.commands import CloseAttempt, Command, Decision
from webhook_server.runs.lending import Gone
from webhook_server.runs.look import (
    Try,
    between,
    cancelled,
    delete,
    finished,
    is_in_doubt,
    is_quiet,
    notice,
    step,
)
from webhook_server.runs.model import Attempt, Member, Run, State, deserves_release
from webhook_server.runs.observations import (
    CreateOutcome,
    InstanceSeen,
    Observations,
    ReleaseSeen,
    ReleaseState,
)
from webhook_server.runs.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What is to be done for the instances of attempts that have ended."""

    run: Run
    commands: tuple[Command, ...] = ()
    look_again_at: datetime | None = None  # None: every one of them is gone


def clear(run: Run, seen: Observations, now: datetime, policy: Policy) -> Cleared:
    """Note what is gone of the attempts that have ended; repeat the deletion of the rest.

    Ever more slowly: only "not found" ends it, never a failure.
    """
    attempts, commands, looks = [], [], []
    for attempt in run.attempts:
        if attempt.ended_at is None:
            attempts.append(attempt)
            continue
        members = tuple(
            replace(m, gone_at=m.gone_at or gone_at(attempt, m, seen.of(m.name), policy))
            for m in attempt.members
        )
        cleared = replace(attempt, members=members)
        attempts.append(cleared)
        for member in cleared.living:
            due, look_at = _deletion(cleared, member, seen.of(member.name), now, policy)
            commands += due
            looks.append(look_at)
        if cleared.living and now >= attempt.ended_at + policy.delete_alert:
            run = _alert(run, attempt, seen)
    return Cleared(
        run=replace(run, attempts=tuple(attempts)),
        commands=tuple(commands),
        look_again_at=min(looks, default=None),
    )


def _alert(run: Run, attempt: Attempt, seen: Observations) -> Run:
    """Tell once that a deletion takes long, with what its provider says instead."""
    text = f"{attempt.offer.provider} has not confirmed the deletion yet"
    if any(told.startswith(text) for told in run.notices):
        return run
    said = [told for m in attempt.living if (told := seen.of(m.name).provider) is not None]
    refused = next((told.detail for told in said if told.gone is Gone.UNKNOWN and told.detail), "")
    return notice(run, f"{text}; the instance cannot be managed: {refused}" if refused else text)


def gone_at(
    attempt: Attempt, member: Member, seen: InstanceSeen, policy: Policy
) -> datetime | None:
    """Return since when the instance is certainly gone, or None.

    "Not found" counts only if it was asked for after the attempt had ended and after the last
    create had either been answered for certain or could no longer take effect late. What it cost
    until then is counted to the answer: it may have gone only while that was waited for.
    """
    told = seen.provider
    if told is None or told.gone is not Gone.ABSENT or attempt.ended_at is None:
        return None
    if told.asked_at < settled_at(attempt, member, seen, policy):
        return None
    return told.heard_at or told.asked_at


def settled_at(attempt: Attempt, member: Member, seen: InstanceSeen, policy: Policy) -> datetime:
    """Return from when on "not found" is believed."""
    ended_at = attempt.ended_at or member.last_try_at
    if is_in_doubt(attempt, member, policy):
        return max(ended_at, member.last_try_at + policy.grace)
    if seen.create is None:  # its one answer was lost, but the instance has been seen
        return ended_at
    created = seen.create.outcome is CreateOutcome.CREATED
    if created and member.seen_at is None:  # ordered, and not yet visible
        return max(ended_at, seen.create.at + policy.visible_after)
    return max(ended_at, seen.create.at)


def _deletion(
    attempt: Attempt, member: Member, seen: InstanceSeen, now: datetime, policy: Policy
) -> tuple[list[Command], datetime]:
    """Return what is due for one instance, and when to look again."""
    ended_at = attempt.ended_at or now
    told = seen.provider
    asked_at = told.asked_at if told is not None and told.asked_at >= ended_at else None
    commands = [
        *([] if seen.closed else [CloseAttempt(name=member.name)]),
        *delete(attempt, member),
    ]
    if asked_at is None:
        return commands, now + policy.delete_retry
    due_at = asked_at + between(policy.delete_retry, asked_at - ended_at, policy.slowest_look)
    settled = settled_at(attempt, member, seen, policy)
    if asked_at < settled <= now:
        due_at = now
    if now < due_at:
        return [], min(due_at, settled) if now < settled else due_at
    return commands, now + between(policy.delete_retry, now - ended_at, policy.slowest_look)


# ── releasing ───────────────────────────────────────────────────────────────────────────────────


def release(at: Try) -> Decision:
    """Try again once nothing of the run executes; finish it once nothing of it exists."""
    if at.run.outcome is None and at.seen.cancel is not None:
        why = cancelled(at, at.seen.cancel)
        at = replace(at, run=replace(at.run, outcome=why.outcome, reason=why.reason))
    if at.run.outcome is None:
        return _try_again(at) if is_quiet(at.attempt) else Decision(run=at.run)
    if at.run.living:
        return Decision(run=at.run)
    return _conclude(at)


def _try_again(at: Try) -> Decision:
    """Queue the run for its next attempt: nothing of the old one executes any more."""
    why = at.attempt.reason or at.run.reason
    return Decision(run=step(at.run, State.QUEUED, why, at.now), look_again_at=at.now)


def _conclude(at: Try) -> Decision:
    """Finish the run once its release is made, refused, or too late."""
    run, seen = at.run, at.seen.release
    if run.key.repository_id == 0 or not deserves_release(run):
        return Decision(run=finished(run, at.now))
    if seen is not None and seen.state is not ReleaseState.PENDING:
        note = _unreleased(seen.text) if seen.state is ReleaseState.REFUSED else None
        run = replace(run, release_url=seen.url, release_note=note)
        return Decision(run=finished(run, at.now))
    late_at = (at.attempt.ended_at or run.state_since) + at.policy.release_limit
    if at.now < late_at:
        return Decision(run=run, look_again_at=late_at)
    note = f"GitHub did not take the release within {at.policy.release_limit}"
    return Decision(run=finished(replace(run, release_note=_unreleased(note)), at.now))


def _unreleased(why: str | None) -> str:
    """Say why there is no release, and where the outputs are all the same."""
    said = (why or "GitHub did not take the release").rstrip(". ")
    return f"{said}. The outputs can be downloaded from the run's own page, or by `cynthus pull`."


def withdrawn(run: Run, seen: ReleaseSeen | None) -> Run:
    """Return a finished run as it is once its release was taken away."""
    if run.release_url is None or seen is None or seen.state is not ReleaseState.REFUSED:
        return run
    return replace(run, release_url=None, release_note=_unreleased(seen.text))
