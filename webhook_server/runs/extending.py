"""Give a live run more time, as far as its policy, its server and its instance allow: pure.

An instance's own hard end cannot be moved while it runs
(https://cloud.google.com/compute/docs/instances/limit-vm-runtime), so what may be added is part of
every order from the start: `limits.max_life`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

from cynthus.frozen import replace
from cynthus.repository_policy import POLICY_PATH
from webhook_server.runs.attempts import span
from webhook_server.runs.commands import Prolong
from webhook_server.runs.limits import deadline, extended_by, winding_up
from webhook_server.runs.look import Look, Try, clock, notice
from webhook_server.runs.model import Extension

L = TypeVar("L", bound=Look)
_NONE = timedelta(0)


def take_up(at: L) -> L:
    """Grant what was asked for since the last look, as far as it can be had; each wish once.

    What was granted is added to the run's own limit of time; what was not is told.
    """
    attempt = at.run.attempt
    if attempt is not None and attempt.ended_at is None and attempt.ending is not None:
        return at  # it is being stopped already
    known = {one.key for one in at.run.extensions}
    for wish in at.seen.extensions:
        if wish.key not in known:
            at = _taken(at, wish)
            known.add(wish.key)
    return at


def _taken(at: L, wish: Extension) -> L:
    room, why = min(_rooms(at), key=lambda found: found[0])
    got = min(wish.more, max(_NONE, room))
    got = timedelta(seconds=got // timedelta(seconds=1))  # agents and providers take whole ones
    need = replace(at.spec.resources, max_duration=at.spec.resources.max_duration + got)
    run = replace(at.run, extensions=(*at.run.extensions, replace(wish, more=got)))
    run = notice(run, _told(wish, got, need.max_duration, why))
    return replace(at, run=run, spec=replace(at.spec, resources=need))


def _told(wish: Extension, got: timedelta, now: timedelta, why: str) -> str:
    if got == wish.more:
        return f"{wish.by} extended it by {span(got)}: it may take {span(now)} now"
    what = f"{span(got)} of it" if got else "none of it"
    return f"{wish.by} asked for {span(wish.more)} more and got {what}: {why}"


def prolonged(at: Try) -> list[Prolong]:
    """Tell the agents of a run that was given more time, until it is written down for each."""
    over_at = deadline(at.run, at.spec)
    if over_at is None or not extended_by(at.run) or at.attempt.ending is not None:
        return []
    return [
        Prolong(name=member.name, deadline_at=over_at)
        for member in at.attempt.members
        if at.agent(member) is not None and at.of(member).deadline_at != over_at
    ]


def _rooms(at: Look) -> Iterator[tuple[timedelta, str]]:
    """Yield how much each limit leaves, with what to say when that is too little."""
    run, spec = at.run, at.spec
    most = run.grant.extend or _NONE
    yield (
        most - extended_by(run),
        f"a run of this repository may be extended by {most} in all. Set `limits/extend` in"
        f" {POLICY_PATH} for more, or resources/max_cost, beside which two hours are free",
    )
    longest = at.policy.powers.longest
    if longest is not None:
        left = longest - spec.resources.max_duration
        yield left, f"this server lets no run take longer than {longest} (CYNTHUS_MAX_DURATION)"
    attempt = run.attempt
    if attempt is not None and attempt.ended_at is None:
        latest = attempt.ordered_at + attempt.max_life - winding_up(at.policy)
        boots_by = attempt.ordered_at + at.policy.boot_limit
        over_at = deadline(run, spec) or boots_by + spec.resources.max_duration
        ends_at = clock(attempt.ordered_at + attempt.max_life)
        text = f"its instance ends by itself at {ends_at}, which cannot be moved while it runs"
        yield latest - over_at, text
