"""Tell what is wrong with one instance whose agent has come: silent, gone, taken back, failed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.wire import AgentState, Exit
from webhook_server.runs.lending import Gone
from webhook_server.runs.look import Try, ask_at, clock, is_over
from webhook_server.runs.model import Cause, Member, Verdict
from webhook_server.runs.observations import AgentSeen, ProviderSeen
from webhook_server.runs.verdict import by_fate, lost, succeeded, taken_back, verdict

# An agent's claim that other agents get into their environment: a name or an address, no more.
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")


def trouble(at: Try, member: Member) -> Verdict | None:
    """Return why a member ends its attempt: of a gang also by how its own command ended."""
    agent = at.agent(member)
    if agent is not None and is_over(agent):
        one_of_many = at.nodes > 1 and not succeeded(agent.exit)
        return judged(at, agent.exit, preempted=agent.preempted) if one_of_many else None
    if agent is not None and agent.preempted:
        return taken_back()
    return fault_of(at, member)


def judged(at: Try, exit_: Exit | None, *, preempted: bool) -> Verdict:
    """Judge the attempt by one of its exits."""
    attempt = replace(at.attempt, exit=exit_)
    return verdict(at.run, at.spec, attempt, preempted=preempted, now=at.now)


def fault_of(at: Try, member: Member) -> Verdict | None:
    """Return why the member's attempt is lost, its own exit aside."""
    agent = at.agent(member)
    if is_over(agent):
        return None
    return silent(at, member) or _not_running(at, member, agent)


def silent(at: Try, member: Member) -> Verdict | None:
    """Return why the attempt is lost, if the member's agent is silent for too long."""
    suspect_at = _suspect_at(at, member)
    if at.now < suspect_at:
        return None
    told = at.of(member).provider
    if told is not None and told.asked_at >= suspect_at:
        why = _gone_or_dead(at, member, told)
        if why is not None:
            return why
    if at.now < lost_at(at, member):
        return None
    if _is_preempted(at, member):
        return taken_back()
    return lost(Cause.SILENT, f"no heartbeat since {clock(_heard_at(at, member))}")


def _gone_or_dead(at: Try, member: Member, told: ProviderSeen) -> Verdict | None:
    if told.gone is Gone.ABSENT or (told.gone is Gone.PRESENT and not told.alive):
        if _is_preempted(at, member):
            return taken_back()
        return by_fate(told.fate, told.detail, "the instance is gone")
    return None


def _is_preempted(at: Try, member: Member) -> bool:
    agent = at.agent(member)
    return agent is not None and agent.preempted


def _not_running(at: Try, member: Member, agent: AgentSeen | None) -> Verdict | None:
    """Return that the image or the rest of the gang is waited for in vain."""
    if agent is None:
        return None
    if agent.state is AgentState.READY and member.rank == 0 and not address_of(agent):
        text = "its agent does not say under which address the others reach it"
        return lost(Cause.INSTANCE, text)
    if at.now < pull_limit_at(at, member):
        return None
    if agent.state is AgentState.PREPARING:
        return lost(Cause.BOOT, f"the image was not ready within {at.policy.pull_limit}")
    if agent.state is AgentState.READY:
        return lost(Cause.BOOT, f"its gang did not meet within {at.policy.pull_limit}")
    return None


def address_of(agent: AgentSeen | None) -> str:
    """Return the address that an agent claims for itself; empty: none that could be used."""
    address = agent.address if agent is not None else None
    return address if address and _ADDRESS.fullmatch(address) else ""


def pull_limit_at(at: Try, member: Member) -> datetime:
    """Return until when the member must have pulled its image."""
    return (member.started_at or at.attempt.ordered_at) + at.policy.pull_limit


# ── when ────────────────────────────────────────────────────────────────────────────────────────


def _heard_at(at: Try, member: Member) -> datetime:
    """Return when the agent was last heard; silence while nobody listened does not count."""
    agent = at.agent(member)
    heard_at = agent.heartbeat_at if agent else member.started_at or at.attempt.ordered_at
    return max(heard_at, at.seen.listening_since or heard_at)


def _suspect_at(at: Try, member: Member) -> datetime:
    patience: timedelta = at.policy.suspect_after
    if _is_preempted(at, member):  # seconds are left: one missed beat says that they are over
        patience = min(patience, 2 * at.policy.heartbeat)
    return _heard_at(at, member) + patience


def lost_at(at: Try, member: Member) -> datetime:
    """Return when a silent agent is given up, whatever its provider says."""
    return _heard_at(at, member) + at.policy.silence_limit


def next_question_at(at: Try, member: Member) -> datetime:
    """Return when its provider is asked after the member, unless its agent is heard before."""
    return ask_at(at, member, _suspect_at(at, member), at.policy.ask_every)
