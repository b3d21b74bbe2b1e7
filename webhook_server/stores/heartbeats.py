"""Take agents' heartbeats, all of one commit together: one read, one insert, one update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from cynthus.codec import decode, encode
from cynthus.frozen import replace
from cynthus.wire import AgentEvent, AgentState, EventKind, Heartbeat, Rendezvous
from webhook_server.runs.observations import AgentSeen
from webhook_server.stores.clean import clean, clean_text
from webhook_server.stores.feed_limits import Counts, feed
from webhook_server.stores.tables import events, instances
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
class _Heard:
    """What is known of one instance between two of its beats."""

    row: Row[*tuple[Any, ...]]  # as it was read: what no beat changes
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
    if fed:
        connection.execute(_INSERT_EVENTS, fed)
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


def _taken(known: _Heard, told: Told) -> tuple[_Heard, BeatResult, list[dict[str, Any]]]:
    """Return what is known after a beat, its answer, and what it adds to the feed."""
    row, beat, now = known.row, told.beat, told.now
    if row.closed_at is not None:
        over = BeatResult(closed=True, run_id=row.run_id, accepted_seq=known.seq)
        return known, over, []
    answer = BeatResult(
        accepted_seq=max(beat.seq, known.seq),
        stop=row.stop,
        rendezvous=_rendezvous(row, beat),
        deadline_s=None if row.deadline_at is None else (row.deadline_at - now).total_seconds(),
        run_id=row.run_id,
    )
    after = replace(known, at=max(now, known.at), seq=answer.accepted_seq)
    if beat.seq <= known.seq:
        return after, answer, []
    after, grown = _fed(after, told)
    agent = _merged(after, beat, now)
    answer = replace(answer, fed=bool(beat.events), news=agent is not after.agent)
    return replace(after, agent=agent), answer, grown


def _rendezvous(row: Row[*tuple[Any, ...]], beat: Heartbeat) -> Rendezvous | None:
    waits = beat.state is AgentState.READY and row.rendezvous is not None
    return decode(Rendezvous, row.rendezvous) if waits else None


def _fed(known: _Heard, told: Told) -> tuple[_Heard, list[dict[str, Any]]]:
    """Return the feed's counts after a beat, and what it adds to the feed."""
    row = known.row
    wanted = _allowed(row.rank, told.beat.events)
    if not wanted:
        return known, []
    limit = told.log_limit_bytes
    fed = feed(wanted, known.counts, log_bytes=known.log_bytes, log_limit_bytes=limit)
    grown = [
        {
            "run_id": row.run_id,
            "attempt": row.attempt,
            "rank": row.rank,
            "kind": event.kind.value,
            "at": _believed(event, row, told.now),
            "body": event.body,
        }
        for event in fed.events
    ]
    return replace(known, counts=fed.counts, log_bytes=fed.log_bytes), grown


def _allowed(rank: int | None, told: tuple[AgentEvent, ...]) -> tuple[AgentEvent, ...]:
    """Leave out what would replace the word of a gang's rank 0, which speaks for all."""
    return tuple(event for event in told if event.kind not in _ONE_VOICE) if rank else told


def _believed(event: AgentEvent, row: Row[*tuple[Any, ...]], now: datetime) -> datetime:
    """Believe the agent's clock only between its enrolment and now: it may be a year off."""
    return event.at if row.enrolled_at <= event.at <= now else now


def _merged(known: _Heard, beat: Heartbeat, now: datetime) -> Mapping[str, Any]:
    """Add what the beat tells of its agent; the same object when it tells nothing new."""
    if not _has_news(known.agent, beat):
        return known.agent
    moments = {"enrolled_at": encode(known.row.enrolled_at), "heartbeat_at": encode(known.at)}
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


# ── the database: statements are built once, since building one costs more than running it ───────

# On PostgreSQL two replicas may hear the same beats: rows are locked, in one order.
_HEARD = (
    select(
        instances.c.token_sha256,
        instances.c.name,
        instances.c.run_id,
        instances.c.attempt,
        instances.c.rank,
        instances.c.enrolled_at,
        instances.c.heartbeat_at,
        instances.c.heartbeat_seq,
        instances.c.agent,
        instances.c.rendezvous,
        instances.c.stop,
        instances.c.deadline_at,
        instances.c.closed_at,
        instances.c.log_bytes,
        instances.c.counts,
    )
    .where(instances.c.token_sha256.in_(bindparam("tokens", expanding=True)))
    .order_by(instances.c.name)
    .with_for_update()
)
_INSERT_EVENTS = insert(events)
_OF_INSTANCE = update(instances).where(instances.c.name == bindparam("instance"))
_QUIET = _OF_INSTANCE.values(heartbeat_at=bindparam("at"), heartbeat_seq=bindparam("seq"))
_FED = _QUIET.values(counts=bindparam("fed"), log_bytes=bindparam("logged"))
_NEWS = _OF_INSTANCE.values(agent=bindparam("seen"))


def _read(connection: Connection, tokens: Iterable[str]) -> dict[str, _Heard]:
    rows = connection.execute(_HEARD, {"tokens": list(tokens)})
    return {
        row.token_sha256: _Heard(
            row=row,
            at=row.heartbeat_at,
            seq=row.heartbeat_seq,
            agent=row.agent,
            counts=decode(Counts, row.counts),
            log_bytes=row.log_bytes,
        )
        for row in rows
    }


def _store(connection: Connection, changed: Sequence[tuple[_Heard, _Heard]]) -> None:
    """Write what is known after the beats, as far as it is another than before."""
    quiet, fed, news = [], [], []
    for before, after in changed:
        if after is before:
            continue
        values = {"instance": after.row.name, "at": after.at, "seq": after.seq}
        if after.counts is before.counts and after.log_bytes == before.log_bytes:
            quiet.append(values)
        else:
            counts = encode(after.counts)
            fed.append(values | {"fed": counts, "logged": after.log_bytes})
        if after.agent is not before.agent:
            news.append({"instance": after.row.name, "seen": after.agent})
    for statement, rows in ((_QUIET, quiet), (_FED, fed), (_NEWS, news)):
        if rows:
            connection.execute(statement, rows)
