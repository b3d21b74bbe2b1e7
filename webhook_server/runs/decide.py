"""Say what to do next with a run: a pure function of the run, what is seen of it, and the time.

It looks at what is, never at what happened: a lost event costs a delay and never a wrong state.
Each state has one function, and each decision makes at most one step along

    building → queued → provisioning → running → collecting → releasing → finished

with the short cuts that `look.STEPS` lists. "At once" (`look_again_at == now`) follows a step only.
Beside it, in every state, the instances of attempts that have ended are given back: a replacement
does not wait for a deletion, only for the word that nothing of the run executes there any more.
"""

from __future__ import annotations

from datetime import datetime

from cynthus.frozen import replace
from cynthus.spec import Spec
from webhook_server.runs.booting import provision
from webhook_server.runs.commands import Decision
from webhook_server.runs.commitment import committed_usd
from webhook_server.runs.extending import take_up
from webhook_server.runs.giving_back import Cleared, clear, release, withdrawn
from webhook_server.runs.honour import notices, refusal
from webhook_server.runs.limits import cost, effective
from webhook_server.runs.look import Look, Try, finish, give_back, noted, notice, step
from webhook_server.runs.model import Attempt, Cause, Run, State, Verdict
from webhook_server.runs.observations import Observations
from webhook_server.runs.policy import CLOUD, Policy
from webhook_server.runs.verdict import failed, lost, spec_fault_text
from webhook_server.runs.waiting import build, queue
from webhook_server.runs.watching import collect, watch


def decide(run: Run, seen: Observations, now: datetime, policy: Policy = CLOUD) -> Decision:
    """Say what to save, what to do and when to look again. Equal inputs, equal Decision."""
    if run.state is State.FINISHED:
        return Decision(run=withdrawn(run, seen.release))
    if run.spec is None:
        return park(run, now, failed(Cause.SPEC, spec_fault_text(run)))
    cleared = clear(noted(run, seen), seen, now, policy)
    decision = _join(_decide(cleared.run, run.spec, seen, now, policy), cleared)
    decided = replace(decision.run, cost_usd=cost(decision.run, now))
    spec = effective(decided, run.spec, policy)
    most = committed_usd(decided, spec, now, policy)
    return replace(decision, run=decided, commitment_usd=most)


def _join(decision: Decision, cleared: Cleared) -> Decision:
    looks = [at for at in (decision.look_again_at, cleared.look_again_at) if at is not None]
    commands = (*decision.commands, *cleared.commands)
    return replace(decision, commands=commands, look_again_at=min(looks, default=None))


def _decide(run: Run, spec: Spec, seen: Observations, now: datetime, policy: Policy) -> Decision:
    if run.state in {State.BUILDING, State.QUEUED}:
        refused = refusal(spec, policy.powers)
        if refused is not None:
            return finish(run, failed(Cause.REFUSED, refused), now)
        for text in notices(spec, policy.powers):
            run = notice(run, text)
    # What is queued may be approved for more: its last approval's price is looked at there.
    spec = effective(run, spec, policy, capped=run.state is not State.QUEUED)
    if run.state is State.BUILDING:
        return build(Look(run=run, spec=spec, seen=seen, now=now, policy=policy))
    if run.state is State.QUEUED:
        return queue(Look(run=run, spec=spec, seen=seen, now=now, policy=policy))
    if run.attempt is None:
        return park(run, now, lost(Cause.SERVER, "the record of this run has no attempt"))
    look = {
        State.PROVISIONING: provision,
        State.RUNNING: watch,
        State.COLLECTING: collect,
        State.RELEASING: release,
    }[run.state]
    at = Try(run=run, spec=spec, attempt=run.attempt, seen=seen, now=now, policy=policy)
    return look(take_up(at) if run.state in _EXTENDED else at)


#: Once the command has ended more time is of no use.
_EXTENDED = frozenset({State.PROVISIONING, State.RUNNING})


def park(run: Run, now: datetime, why: Verdict | None = None) -> Decision:
    """End a run that cannot be handled: its instances are given back, then it is finished.

    Safe to repeat; an outcome that is set stays.
    """
    if run.state is State.FINISHED:
        return Decision(run=run)
    text = "the server failed to handle this run; its instance is given back"
    why = why or lost(Cause.SERVER, text)
    if not run.living:
        return finish(run, why, now)
    parked = replace(run, attempts=tuple(_ended(attempt, why, now) for attempt in run.attempts))
    reason = why.reason if run.outcome is None else run.reason
    parked = step(parked, State.RELEASING, reason, now)
    if parked.outcome is None:
        parked = replace(parked, outcome=why.outcome or why.last_resort)
    commands = tuple(command for attempt in parked.attempts for command in give_back(attempt))
    return Decision(run=parked, commands=commands, look_again_at=now + CLOUD.delete_retry)


def _ended(attempt: Attempt, why: Verdict, now: datetime) -> Attempt:
    ended_at, reason = attempt.ended_at or now, attempt.reason or why.reason
    return replace(attempt, ended_at=ended_at, reason=reason)
