"""Take agents' heartbeats, all of one commit together: one read, one insert, one update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from cynthus.codec import decode, encode
from cynthus.frozen import replace
from cynthus.wire import AgentEvent, AgentState, EventKind, Heartbeat, Rendezvous
from webhook_server.runs.observations import AgentSeen
from webhook_server.stores.clean import clean, clean_text
from webhook_server.stores.feed_limits import Counts, feed
from webhook_server.stores.json_text import to_json
from webhook_server.stores.many_rows import EachRow, ManyRows, json_of, moment_of, stored_moment
from webhook_server.stores.waking import wake
from webhook_server.stores.writer import Joint

_ORDER = (
    AgentState.PREPARING,
    AgentState.READY,
    AgentState.RUNNING,
    AgentState.UPLOADING,
    AgentState.DONE,
)
# As programs for torchrun do it: rank 0 reports, the others log.
_ONE_VOICE = {
    EventKind.PHASE,
    EventKind.PROGRESS,
    EventKind.METRIC,
    EventKind.SAMPLE,
    EventKind.SUMMARY,
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """One heartbeat as it came."""

    token_sha256: str
    beat: Heartbeat
    log_limit_bytes: int
    now: datetime


@dataclass(frozen=True, kw_only=True)
class BeatResult:
    """The answer to a heartbeat; `closed` and `unknown` mean that nothing of it was taken."""

    accepted_seq: int = 0
    stop: str | None = None
    rendezvous: Rendezvous | None = None
    deadline_s: float | None = None  # from now
    closed: bool = False
    unknown: bool = False
    run_id: str = ""
    fed: bool = False  # the run's feed grew
    news: bool = False  # the run was woken


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """What no beat changes."""

    name: str
    run_id: str
    attempt: int
    rank: int | None
    enrolled_at: datetime
    rendezvous: Any
    stop: str | None
    deadline_at: datetime | None
    closed: bool


@dataclass(frozen=True, kw_only=True)
class _Event:
    """One line more in a run's feed."""

    instance: _Instance
    kind: EventKind
    at: datetime
    body: Any


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What is known of one instance between two of its beats."""

    instance: _Instance
    at: datetime
    seq: int
    agent: Mapping[str, Any]
    counts: Counts
    log_bytes: int


def take(connection: Connection, told: Sequence[Told]) -> list[BeatResult]:
    """Take heartbeats in their order. Safe to repeat: an accepted `seq` is taken once."""
    before = _read(connection, {one.token_sha256 for one in told})
    heard, results, fed = dict(before), [], []
    for one in told:
        known = heard.get(one.token_sha256)
        if known is None:
            results.append(BeatResult(unknown=True))
            continue
        heard[one.token_sha256], result, grown = _taken(known, one)
        results.append(result)
        fed += grown
    _add(connection, fed)
    _store(connection, [(before[token], after) for token, after in heard.items()])
    for run_id, now in sorted(
        {(r.run_id, one.now) for r, one in zip(results, told, strict=True) if r.news}
    ):
        wake(connection, run_id, now)
    return results


#: Agents do not notice 8 ms. At 1,000 beats a second some eight share a commit then, and the
#: writer spends a third of what it spent on them one by one (docs/performance.md).
HEARTBEATS: Joint[Told, BeatResult] = Joint(take, at_door=True, patience_s=0.008)


# ── what a beat comes to: pure ──────────────────────────────────────────────────────────────────


def _taken(known: _Heard, told: Told) -> tuple[_Heard, BeatResult, list[_Event]]:
    """Return what is known after a beat, its answer, and what it adds to the feed."""
    instance, beat, now = known.instance, told.beat, told.now
    if instance.closed:
        over = BeatResult(closed=True, run_id=instance.run_id, accepted_seq=known.seq)
        return known, over, []
    ends_at = instance.deadline_at
    answer = BeatResult(
        accepted_seq=max(beat.seq, known.seq),
        stop=instance.stop,
        rendezvous=_rendezvous(instance, beat),
        deadline_s=None if ends_at is None else (ends_at - now).total_seconds(),
        run_id=instance.run_id,
    )
    after = replace(known, at=max(now, known.at), seq=answer.accepted_seq)
    if beat.seq <= known.seq:
        return after, answer, []
    after, grown = _fed(after, told)
    agent = _merged(after, beat, now)
    answer = replace(answer, fed=bool(beat.events), news=agent is not after.agent)
    return replace(after, agent=agent), answer, grown


def _rendezvous(instance: _Instance, beat: Heartbeat) -> Rendezvous | None:
    waits = beat.state is AgentState.READY and instance.rendezvous is not None
    return decode(Rendezvous, instance.rendezvous) if waits else None


def _fed(known: _Heard, told: Told) -> tuple[_Heard, list[_Event]]:
    """Return the feed's counts after a beat, and what it adds to the feed."""
    instance = known.instance
    wanted = _allowed(instance.rank, told.beat.events)
    if not wanted:
        return known, []
    limit = told.log_limit_bytes
    fed = feed(wanted, known.counts, log_bytes=known.log_bytes, log_limit_bytes=limit)
    grown = [
        _Event(
            instance=instance,
            kind=event.kind,
            at=_believed(event, instance, told.now),
            body=event.body,
        )
        for event in fed.events
    ]
    return replace(known, counts=fed.counts, log_bytes=fed.log_bytes), grown


def _allowed(rank: int | None, told: tuple[AgentEvent, ...]) -> tuple[AgentEvent, ...]:
    """Leave out what would replace the word of a gang's rank 0, which speaks for all."""
    return tuple(event for event in told if event.kind not in _ONE_VOICE) if rank else told


def _believed(event: AgentEvent, instance: _Instance, now: datetime) -> datetime:
    """Believe the agent's clock only between its enrolment and now: it may be a year off."""
    return event.at if instance.enrolled_at <= event.at <= now else now


def _merged(known: _Heard, beat: Heartbeat, now: datetime) -> Mapping[str, Any]:
    """Add what the beat tells of its agent; the same object when it tells nothing new."""
    if not _has_news(known.agent, beat):
        return known.agent
    moments = {"enrolled_at": encode(known.instance.enrolled_at), "heartbeat_at": encode(known.at)}
    before = decode(AgentSeen, {**known.agent, **moments})
    seen = _seen(before, beat, now)
    return known.agent if seen == before else agent_json(seen)


def _has_news(agent: Mapping[str, Any], beat: Heartbeat) -> bool:
    """Say whether the beat may tell something new: most do not, and cost no decoding."""
    told = beat.exit is not None or beat.outputs is not None
    told = told or beat.preempted or beat.maintenance is not None
    return told or agent["state"] != beat.state.value


def _seen(seen: AgentSeen, beat: Heartbeat, now: datetime) -> AgentSeen:
    """Add a heartbeat's facts: states only go forward, the first exit and the last list stay."""
    brings = beat.state in {AgentState.UPLOADING, AgentState.DONE}
    brings = brings and seen.state is not AgentState.DONE and beat.outputs is not None
    return replace(
        seen,
        state=max(seen.state, beat.state, key=_ORDER.index),
        exit=seen.exit if seen.exit is not None else beat.exit,
        exit_at=seen.exit_at or (now if beat.exit is not None else None),
        outputs=beat.outputs if brings else seen.outputs,
        preempted=seen.preempted or beat.preempted,
        maintenance=seen.maintenance or (beat.maintenance and clean_text(beat.maintenance)),
    )


def agent_of(row: Row[*tuple[Any, ...]]) -> AgentSeen:
    """Return what is seen of an instance's agent."""
    moments = {"enrolled_at": encode(row.enrolled_at), "heartbeat_at": encode(row.heartbeat_at)}
    return decode(AgentSeen, row.agent | moments)


def agent_json(seen: AgentSeen) -> Any:
    """Return the value of the column `agent`."""
    value = encode(seen)
    # These two have columns of their own: a beat without news rewrites no JSON.
    del value["enrolled_at"], value["heartbeat_at"]
    return clean(value)


# ── the database: a thousand of these a second, so written for its driver (many_rows.py) ─────────

# On PostgreSQL two replicas may hear the same beats: rows are locked, in one order.
_HEARD = ManyRows(
    "SELECT token_sha256, name, run_id, attempt, rank, enrolled_at, heartbeat_at, heartbeat_seq,"
    " agent, rendezvous, stop, deadline_at, closed_at, log_bytes, counts"
    " FROM instances WHERE token_sha256 IN (VALUES ",
    "(?)",
    ") ORDER BY name",
    locks=True,
)
_ADD_EVENTS = ManyRows(
    "INSERT INTO events (run_id, attempt, rank, kind, at, body) VALUES ", "(?, ?, ?, ?, ?, ?)"
)
_QUIET = EachRow("UPDATE instances SET heartbeat_at = ?, heartbeat_seq = ? WHERE name = ?")
_FED = EachRow(
    "UPDATE instances SET heartbeat_at = ?, heartbeat_seq = ?, counts = ?, log_bytes = ?"
    " WHERE name = ?"
)
_NEWS = EachRow("UPDATE instances SET agent = ? WHERE name = ?")


def _read(connection: Connection, tokens: Iterable[str]) -> dict[str, _Heard]:
    rows = _HEARD.execute(connection, [(token,) for token in tokens])
    return {row.token_sha256: _heard(row) for row in rows}


def _heard(row: Row[*tuple[Any, ...]]) -> _Heard:
    return _Heard(
        instance=_Instance(
            name=row.name,
            run_id=row.run_id,
            attempt=row.attempt,
            rank=row.rank,
            enrolled_at=moment_of(row.enrolled_at),
            rendezvous=json_of(row.rendezvous),
            stop=row.stop,
            deadline_at=None if row.deadline_at is None else moment_of(row.deadline_at),
            closed=row.closed_at is not None,
        ),
        at=moment_of(row.heartbeat_at),
        seq=row.heartbeat_seq,
        agent=json_of(row.agent),
        counts=decode(Counts, json_of(row.counts)),
        log_bytes=row.log_bytes,
    )


def _add(connection: Connection, fed: Sequence[_Event]) -> None:
    rows = [
        (
            *(one.instance.run_id, one.instance.attempt, one.instance.rank),
            *(one.kind.value, stored_moment(connection, one.at), to_json(one.body)),
        )
        for one in fed
    ]
    _ADD_EVENTS.execute(connection, rows)


def _store(connection: Connection, changed: Sequence[tuple[_Heard, _Heard]]) -> None:
    """Write what is known after the beats, as far as it is another than before."""
    quiet, fed, news = [], [], []
    for before, after in changed:
        if after is before:
            continue
        name, at = after.instance.name, stored_moment(connection, after.at)
        if after.counts is before.counts and after.log_bytes == before.log_bytes:
            quiet.append((at, after.seq, name))
        else:
            fed.append((at, after.seq, to_json(after.counts), after.log_bytes, name))
        if after.agent is not before.agent:
            news.append((to_json(after.agent), name))
    _QUIET.execute(connection, quiet)
    _FED.execute(connection, fed)
    _NEWS.execute(connection, news)
