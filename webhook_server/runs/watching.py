"""Watch the command until it has ended, or until we end it; then wait for its outputs."""

from __future__ import annotations

from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.wire import AgentState, Exit, Output, Rendezvous
from webhook_server.runs.commands import Command, Decision, Meet, StopWork
from webhook_server.runs.extending import prolonged
from webhook_server.runs.faults import (
    address_of,
    fault_of,
    judged,
    lost_at,
    next_question_at,
    pull_limit_at,
    silent,
    trouble,
)
from webhook_server.runs.limits import limit_reached, money_spent
from webhook_server.runs.look import (
    Try,
    ask,
    cancelled,
    end,
    is_over,
    is_quiet,
    notice,
    step,
    with_attempt,
)
from webhook_server.runs.model import Cause, Member, Outcome, Reason, State, Verdict
from webhook_server.runs.verdict import (
    failed,
    lost,
    of_rank,
    stopped,
    succeeded,
)
from webhook_server.runs.work import rank_path

#: Google Cloud takes a machine 30 s after its notice, and the agent's last word is out after 25.
_TAKEN_LIMIT = timedelta(seconds=25)
_TOLD = 20  # outputs left out, each in a notice of its own


def watch(at: Try) -> Decision:
    """Watch the agents until the command has ended on each, or until we end it."""
    if at.attempt.ending is None:
        at = _note_fault(at)
    if all(is_over(at.agent(member)) for member in at.attempt.members):
        return _ended_by_itself(at)
    if at.attempt.ending is not None and _is_hopeless(at):
        return _kept_end(at, at.attempt.ending)
    if at.attempt.ending is None:
        at = _stop_if_due(at)
    if at.attempt.stop_at is not None:
        return _wait_for_stop(at, at.attempt.stop_at)
    return _go_on(at)


# ── the end, and what brings it about ───────────────────────────────────────────────────────────


def _note_fault(at: Try) -> Try:
    """Note the first cause for which the attempt must end; what follows from it changes nothing."""
    faults = [(m, why) for m in at.attempt.members if (why := trouble(at, m)) is not None]
    if not faults:
        return at
    member, why = min(faults, key=lambda fault: _since(at, fault[0]))
    return _ending(at, of_rank(member.rank, at.nodes, why))


def _since(at: Try, member: Member) -> datetime:
    agent = at.agent(member)
    return (agent.exit_at if agent is not None else None) or at.now


def _ending(at: Try, why: Verdict) -> Try:
    """Let the attempt end for this reason: its agents are told to stop."""
    at = with_attempt(at, replace(at.attempt, stop_at=at.now, ending=why))
    return replace(at, run=replace(at.run, reason=why.reason))


def _is_hopeless(at: Try) -> bool:
    """Say whether nobody is left who could report an end: each one has, or is lost."""
    return all(
        is_over(at.agent(member)) or fault_of(at, member) is not None
        for member in at.attempt.members
    )


def _ended_by_itself(at: Try) -> Decision:
    at = with_attempt(at, replace(at.attempt, exit=_exit(at)))
    why = _judge(at)
    done = all(_state(at, member) is AgentState.DONE for member in at.attempt.members)
    # What an instance that is being taken back has to bring is waited for, but not for long; with
    # nothing to come its replacement does not wait.
    coming = _is_taken(at, why) and bool(at.spec.outputs) and not done
    given_up = at.attempt.ending is not None or _is_taken(at, why)
    useless = why.outcome is None and given_up and is_quiet(at.attempt) and not coming
    if useless or (at.attempt.exit is None and done):
        return _kept_end(at, why)
    reason = Reason(cause=Cause.PROGRESS, text="collecting the outputs")
    return Decision(run=step(at.run, State.COLLECTING, reason, at.now), look_again_at=at.now)


def _is_taken(at: Try, why: Verdict) -> bool:
    """Say whether the attempt is lost because its instances go away."""
    preempted = any(_is_preempted(at, member) for member in at.attempt.members)
    return why.outcome is None and preempted


def _exit(at: Try) -> Exit | None:
    """Return the exit that counts: of a gang the first failure, or else rank 0's."""
    agents = [agent for m in at.attempt.members if (agent := at.agent(m)) is not None]
    failures = [agent for agent in agents if not succeeded(agent.exit)]
    first = min(failures, key=lambda agent: agent.exit_at or at.now, default=None)
    return first.exit if first is not None else agents[0].exit


def _judge(at: Try) -> Verdict:
    """Judge an attempt whose agents have all reported an exit."""
    if at.nodes > 1 and at.attempt.ending is not None and not succeeded(at.attempt.exit):
        return at.attempt.ending
    preempted = any(_is_preempted(at, member) for member in at.attempt.members)
    return judged(at, at.attempt.exit, preempted=preempted)


def _is_preempted(at: Try, member: Member) -> bool:
    agent = at.agent(member)
    return agent is not None and agent.preempted


def _state(at: Try, member: Member) -> AgentState | None:
    agent = at.agent(member)
    return agent.state if agent is not None else None


def _stop_if_due(at: Try) -> Try:
    cancel, limit = at.seen.cancel, limit_reached(at.run, at.spec, at.now, at.policy)
    if cancel is not None:
        return _ending(at, cancelled(at, cancel))
    if limit is not None:
        return _ending(at, stopped(limit.cause, limit.text))
    return at


def _wait_for_stop(at: Try, stop_at: datetime) -> Decision:
    """Say "stop" until the agents report the end; give the instances back if they do not."""
    why = at.attempt.ending or _judge(at)
    late_at = stop_at + at.policy.stop_limit
    if at.now >= late_at:
        return end(at, why)
    stops = [
        StopWork(name=member.name, reason=why.reason.text)
        for member in at.attempt.members
        if (agent := at.agent(member)) is not None
        and not is_over(agent)
        # One that is being taken back stops by itself, with all the time that it has left.
        and not agent.preempted
    ]
    decision = _go_on(at, late_at)
    return replace(decision, commands=(*stops, *decision.commands))


# ── going on ────────────────────────────────────────────────────────────────────────────────────


def _go_on(at: Try, *deadlines: datetime) -> Decision:
    """Let a gang meet; ask after whoever is silent; look at every deadline."""
    watched = [member for member in at.attempt.members if not is_over(at.agent(member))]
    looks = [*deadlines, *(lost_at(at, member) for member in watched)]
    looks += [pull_limit_at(at, m) for m in watched if _state(at, m) in _BEFORE_RUNNING]
    for member in watched:
        agent = at.agent(member)
        if agent is not None and agent.maintenance:
            text = f"the host of {member.name} will be maintained: {agent.maintenance}"
            at = replace(at, run=notice(at.run, text))
    decision = ask(at, [(m, next_question_at(at, m)) for m in watched], *looks)
    return replace(decision, commands=(*_meet(at), *prolonged(at), *decision.commands))


_BEFORE_RUNNING = {AgentState.PREPARING, AgentState.READY}


def _meet(at: Try) -> list[Command]:
    """Tell a gang where it meets, once each of its agents is ready; repeated until it runs."""
    agents = [at.agent(member) for member in at.attempt.members]
    states = {agent.state if agent is not None else None for agent in agents}
    if at.nodes == 1 or at.attempt.ending is not None or AgentState.READY not in states:
        return []
    if not states <= {AgentState.READY, AgentState.RUNNING}:
        return []
    peers = tuple(address_of(agent) for agent in agents)
    told = Rendezvous(address=peers[0], peers=peers)
    return [
        Meet(name=member.name, rendezvous=told)
        for member in at.attempt.members
        if _state(at, member) is AgentState.READY
    ]


# ── collecting ──────────────────────────────────────────────────────────────────────────────────


def collect(at: Try) -> Decision:
    """Wait for the outputs; the command has ended already."""
    if all(_state(at, member) is AgentState.DONE for member in at.attempt.members):
        return _kept_end(at, _judge(at))
    uncollected = _uncollectable(at)
    if uncollected is not None:
        return _kept_end(at, uncollected)
    late_at = at.run.state_since + _limit(at)
    waited = [m for m in at.attempt.members if _state(at, m) is not AgentState.DONE]
    looks = [late_at, *(lost_at(at, member) for member in waited)]
    return ask(at, [(m, next_question_at(at, m)) for m in waited], *looks)


def _limit(at: Try) -> timedelta:
    """Return how long outputs are waited for."""
    return _TAKEN_LIMIT if _is_taken(at, _judge(at)) else at.policy.collect_limit


def _kept_end(at: Try, why: Verdict) -> Decision:
    """End the attempt, with what its agents have told of its outputs."""
    return end(_keep(at, why), why)


def _keep(at: Try, why: Verdict) -> Try:
    """Note the outputs, unless an earlier attempt has brought some and this one none."""
    agents = [agent for m in at.attempt.members if (agent := at.agent(m)) is not None]
    outputs = tuple(output for member in at.attempt.members for output in _outputs(at, member))
    stored = any(output.left_out is None for output in outputs)
    if all(agent.outputs is None for agent in agents) or (why.outcome is None and not stored):
        return at
    run = at.run
    if stored or not any(output.left_out is None for output in run.outputs or ()):
        # A run whose gate fails has all of them: it is the command that counts.
        done = all(agent.state is AgentState.DONE for agent in agents)
        run = replace(
            run,
            outputs=outputs,
            outputs_attempt=at.attempt.number,
            outputs_partial=stored and not (done and succeeded(at.attempt.exit)),
        )
    left_out = [output for output in outputs if output.left_out is not None]
    for output in left_out[:_TOLD]:
        run = notice(run, f"{output.path} was not stored: {output.left_out}")
    if len(left_out) > _TOLD:
        run = notice(run, f"{len(left_out) - _TOLD} more outputs were not stored")
    return replace(at, run=run)


def _outputs(at: Try, member: Member) -> list[Output]:
    agent = at.agent(member)
    outputs = agent.outputs if agent is not None else None
    return [replace(o, path=rank_path(member.rank, o.path)) for o in outputs or ()]


def _uncollectable(at: Try) -> Verdict | None:
    """Return the verdict without outputs, once they cannot be waited for any longer."""
    limit = money_spent(at.run, at.spec, at.now, at.policy)
    if limit is not None:
        return at.attempt.ending or stopped(limit.cause, limit.text)
    if at.now >= at.run.state_since + _limit(at):
        why = failed(Cause.OUTPUTS, f"the outputs did not come within {at.policy.collect_limit}")
    else:
        gone = _lost_collecting(at)
        if gone is None:
            return None
        why = lost(Cause.OUTPUTS, f"the outputs were lost: {gone.reason.text}")
    by_exit = _judge(at)
    complete = by_exit.outcome is not Outcome.SUCCEEDED or not at.spec.outputs
    return by_exit if complete else why


def _lost_collecting(at: Try) -> Verdict | None:
    for member in at.attempt.members:
        if _state(at, member) is AgentState.DONE:
            continue
        why = silent(at, member)
        if why is not None:
            return of_rank(member.rank, at.nodes, why)
    return None
