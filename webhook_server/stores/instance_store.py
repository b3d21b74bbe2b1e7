"""Keep what is seen of each instance; written by the agent's door and by `perform`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from cynthus.codec import decode, encode
from cynthus.wire import AgentEvent, AgentState, EventKind, Facts, Heartbeat, Rendezvous
from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.model import AgentSeen, CreateSeen, Gone, ProviderSeen
from webhook_server.stores import trail_store
from webhook_server.stores.clean import clean, clean_text
from webhook_server.stores.database import Database
from webhook_server.stores.feed_limits import Counts, Fed, feed
from webhook_server.stores.tables import events, instances
from webhook_server.stores.waking import wake

_ORDER = (
    AgentState.PREPARING,
    AgentState.READY,
    AgentState.RUNNING,
    AgentState.UPLOADING,
    AgentState.DONE,
)


@dataclass(frozen=True, kw_only=True)
class InstanceRow:
    """All that is known of one instance."""

    name: str
    run_id: str
    attempt: int
    rank: int | None  # None: there is no gang
    provider_name: str
    repository_id: int
    ordered_at: datetime
    nonce: str | None
    token_sha256: str | None
    agent: AgentSeen | None
    facts: Facts | None
    create: CreateSeen | None
    provider: ProviderSeen | None
    stop: str | None
    deadline_at: datetime | None
    closed_at: datetime | None
    heartbeat_seq: int
    log_bytes: int


class Enrolling(StrEnum):
    """The answer to an enrolment."""

    OK = "ok"
    AGAIN = "again"  #: the same agent asked before: the same answer
    TAKEN = "taken"  #: another agent has it
    CLOSED = "closed"
    UNKNOWN = "unknown"


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


class InstanceStore:
    """Reads and writes the table `instances`; heartbeats also append to `events`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # ── the loop ───────────────────────────────────────────────────────────────────────────────

    def observe(self, name: str) -> InstanceRow:
        """Return all that is known of the instance. Raises: KeyError, if it was never ordered."""
        found = self.rows([name])
        if not found:
            raise KeyError(name)
        return found[0]

    def rows(self, names: Collection[str]) -> list[InstanceRow]:
        """Return all that is known of those of these instances that we ordered."""
        query = select(instances).where(instances.c.name.in_(list(names)))
        with self._db.read() as connection:
            return [_instance(row) for row in connection.execute(query)]

    def record_create(self, name: str, seen: CreateSeen) -> None:
        """Note how a create was answered and wake the run. Safe to repeat."""
        by = authority()

        def values(connection: Connection) -> Mapping[str, Any]:
            columns = (instances.c.create_seen, instances.c.run_id, instances.c.repository_id)
            query = select(*columns).where(instances.c.name == name)
            row = connection.execute(query.with_for_update()).one()
            if row.create_seen != (told := clean(encode(seen))):
                deed = deeds.created(row.repository_id, row.run_id, name, seen)
                trail_store.add(connection, by, [deed], seen.at)
            return {"create_seen": told}

        self._record(name, values, seen.at)

    def record_provider(self, name: str, seen: ProviderSeen) -> None:
        """Note what the provider said of the instance and wake the run. Safe to repeat.

        That it was shown once is carried along, as is why its order could not be met: the answer
        to the deletion that follows says "not found" and no longer why.
        """
        by = authority()

        def values(connection: Connection) -> Mapping[str, Any]:
            columns = (instances.c.provider_seen, instances.c.run_id, instances.c.repository_id)
            query = select(*columns).where(instances.c.name == name)
            row = connection.execute(query.with_for_update()).one()
            told = row.provider_seen
            before = decode(ProviderSeen, told) if told else seen
            known = before if told else None
            ended = deeds.ended(row.repository_id, row.run_id, name, (known, seen))
            trail_store.add(connection, by, ended, seen.asked_at)
            shown = seen.gone is Gone.PRESENT or before.shown
            refusal = seen.refusal or before.refusal
            return {"provider_seen": clean(encode(replace(seen, shown=shown, refusal=refusal)))}

        self._record(name, values, seen.asked_at)

    def _record(
        self, name: str, told: Callable[[Connection], Mapping[str, Any]], now: datetime
    ) -> None:
        def work(connection: Connection) -> None:
            values = told(connection)
            statement = update(instances).where(instances.c.name == name).values(**values)
            run_id = connection.execute(statement.returning(instances.c.run_id)).scalar_one()
            wake(connection, run_id, now)

        self._db.write(work)

    def request_stop(self, name: str, text: str) -> None:
        """Let the answer to the next heartbeat say "stop"; the first sentence stays. Repeatable."""
        statement = (
            update(instances)
            .where(instances.c.name == name, instances.c.stop.is_(None))
            .values(stop=clean_text(text))
        )
        self._db.write(lambda connection: connection.execute(statement).rowcount)

    def meet(self, name: str, rendezvous: Rendezvous) -> None:
        """Let heartbeat answers say where the gang meets. Safe to repeat."""
        statement = (
            update(instances).where(instances.c.name == name).values(rendezvous=encode(rendezvous))
        )
        self._db.write(lambda connection: connection.execute(statement).rowcount)

    def prolong(self, name: str, deadline_at: datetime) -> None:
        """Let heartbeat answers name another deadline than the work did. Safe to repeat."""
        statement = (
            update(instances).where(instances.c.name == name).values(deadline_at=deadline_at)
        )
        self._db.write(lambda connection: connection.execute(statement).rowcount)

    def close(self, name: str, now: datetime) -> None:
        """Refuse from here on whatever the instance's agent sends. Safe to repeat."""
        statement = (
            update(instances)
            .where(instances.c.name == name, instances.c.closed_at.is_(None))
            .values(closed_at=now)
        )
        self._db.write(lambda connection: connection.execute(statement).rowcount)

    def note_swept(self, provider: str, name: str, now: datetime) -> None:
        """Keep in the trail that something unknown is about to be deleted; each call is a deed."""
        by = authority()
        self._db.write(
            lambda connection: trail_store.add(connection, by, [deeds.swept(provider, name)], now)
        )

    def unfinished(self, provider: str) -> list[str]:
        """Return the names of the provider's instances whose attempts are not closed."""
        query = select(instances.c.name).where(
            instances.c.provider == provider, instances.c.closed_at.is_(None)
        )
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    # ── the agent's door ───────────────────────────────────────────────────────────────────────

    def enrol(
        self, name: str, *, nonce: str, token_sha256: str, facts: Facts, now: datetime
    ) -> Enrolling:
        """Bind the instance to the one agent with this nonce and wake the run. Safe to repeat."""

        def work(connection: Connection) -> Enrolling:
            row = connection.execute(
                select(instances).where(instances.c.name == name).with_for_update()
            ).one_or_none()
            answer = _enrolling(row, nonce)
            if row is not None and answer is Enrolling.OK:
                first = AgentSeen(
                    enrolled_at=now,
                    heartbeat_at=now,
                    state=AgentState.PREPARING,
                    engine=clean_text(facts.engine),
                    address=facts.address and clean_text(facts.address),
                )
                connection.execute(
                    update(instances)
                    .where(instances.c.name == name)
                    .values(
                        nonce=nonce,
                        token_sha256=token_sha256,
                        enrolled_at=now,
                        heartbeat_at=now,
                        agent=_agent_json(first),
                        facts=clean(encode(facts)),
                    )
                )
                _add_marks(connection, row, facts, now)
                wake(connection, row.run_id, now)
            return answer

        return self._db.write(work)

    def by_token(self, token_sha256: str) -> InstanceRow | None:
        """Return the instance whose agent holds this token."""
        query = select(instances).where(instances.c.token_sha256 == token_sha256)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _instance(row)

    def heartbeat(
        self, token_sha256: str, beat: Heartbeat, *, log_limit_bytes: int, now: datetime
    ) -> BeatResult:
        """Take a heartbeat. Safe to repeat: an accepted `seq` changes only when it was heard."""
        return self.heartbeat_async(
            token_sha256, beat, log_limit_bytes=log_limit_bytes, now=now
        ).result()

    def heartbeat_async(
        self, token_sha256: str, beat: Heartbeat, *, log_limit_bytes: int, now: datetime
    ) -> Future[BeatResult]:
        """As `heartbeat`, for a door that must not wait in its thread."""
        return self._db.write_async(
            lambda connection: _take(connection, token_sha256, beat, log_limit_bytes, now)
        )


def add(connection: Connection, row: Mapping[str, Any], before: str | None) -> None:
    """Insert a new attempt's instance; the feed's counts go on from the attempt `before`."""
    query = select(instances.c.counts).where(instances.c.name == before)
    counts = connection.execute(query).scalar_one_or_none() if before else None
    connection.execute(insert(instances).values(counts=counts or {}, **row))


def _add_marks(
    connection: Connection, row: Row[*tuple[Any, ...]], facts: Facts, now: datetime
) -> None:
    """Add what the agent says of the boot to the feed: before its first beat nobody heard it."""
    marks = [(mark.name, min(max(mark.at, row.ordered_at), now)) for mark in facts.marks]
    values = [
        {
            "run_id": row.run_id,
            "attempt": row.attempt,
            "rank": row.rank,
            "kind": EventKind.MARK.value,
            "at": at,
            "body": {"name": clean_text(name)[:_MARK_LIMIT], "at": encode(at)},
        }
        for name, at in [*marks[:_MARKS], ("enrolled", now)]
    ]
    connection.execute(insert(events), values)


_MARKS = 20  # a boot has four or five
_MARK_LIMIT = 64


def _enrolling(row: Row[*tuple[Any, ...]] | None, nonce: str) -> Enrolling:
    if row is None:
        return Enrolling.UNKNOWN
    if row.closed_at is not None:
        return Enrolling.CLOSED
    if row.nonce is None:
        return Enrolling.OK
    return Enrolling.AGAIN if row.nonce == nonce else Enrolling.TAKEN


# Built once, since a thousand heartbeats a second would build them each time.
_HEARD = select(
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
)
# On PostgreSQL two replicas may hear the same beat: the row is locked.
_HEARD_LOCKED = _HEARD.where(instances.c.token_sha256 == bindparam("token")).with_for_update()
_COUNTS = select(instances.c.counts).where(instances.c.name == bindparam("instance"))
_QUIET_BEAT = (
    update(instances)
    .where(instances.c.name == bindparam("instance"))
    .values(heartbeat_at=bindparam("heard_at"), heartbeat_seq=bindparam("accepted_seq"))
)


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────


def _take(
    connection: Connection, token_sha256: str, beat: Heartbeat, log_limit: int, now: datetime
) -> BeatResult:
    row = connection.execute(_HEARD_LOCKED, {"token": token_sha256}).one_or_none()
    if row is None:
        return BeatResult(unknown=True)
    if row.closed_at is not None:
        return BeatResult(closed=True, run_id=row.run_id, accepted_seq=row.heartbeat_seq)
    if beat.seq <= row.heartbeat_seq:
        _update(connection, row, row.heartbeat_seq, {}, now)
        return BeatResult(
            accepted_seq=row.heartbeat_seq,
            stop=row.stop,
            rendezvous=_rendezvous(row, beat),
            deadline_s=_deadline_s(row, now),
            run_id=row.run_id,
        )
    return _take_new(connection, row, beat, log_limit, now)


def _take_new(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    beat: Heartbeat,
    log_limit: int,
    now: datetime,
) -> BeatResult:
    values: dict[str, Any] = {}
    news = _has_news(row.agent, beat) and _merge(connection, row, beat, values, now)
    told = _allowed(row.rank, beat.events)
    if told:
        counts = decode(Counts, connection.execute(_COUNTS, {"instance": row.name}).scalar_one())
        fed = feed(told, counts, log_bytes=row.log_bytes, log_limit_bytes=log_limit)
        _insert_events(connection, row, fed, now)
        values |= {"counts": encode(fed.counts), "log_bytes": fed.log_bytes}
    _update(connection, row, beat.seq, values, now)
    return BeatResult(
        accepted_seq=beat.seq,
        stop=row.stop,
        rendezvous=_rendezvous(row, beat),
        deadline_s=_deadline_s(row, now),
        run_id=row.run_id,
        fed=bool(beat.events),
        news=news,
    )


def _allowed(rank: int | None, told: tuple[AgentEvent, ...]) -> tuple[AgentEvent, ...]:
    """Leave out what would replace the word of a gang's rank 0, which speaks for all."""
    return tuple(event for event in told if event.kind not in _ONE_VOICE) if rank else told


# As programs for torchrun do it: rank 0 reports, the others log.
_ONE_VOICE = {
    EventKind.PHASE,
    EventKind.PROGRESS,
    EventKind.METRIC,
    EventKind.SAMPLE,
    EventKind.SUMMARY,
}


def _rendezvous(row: Row[*tuple[Any, ...]], beat: Heartbeat) -> Rendezvous | None:
    waits = beat.state is AgentState.READY and row.rendezvous is not None
    return decode(Rendezvous, row.rendezvous) if waits else None


def _deadline_s(row: Row[*tuple[Any, ...]], now: datetime) -> float | None:
    return None if row.deadline_at is None else (row.deadline_at - now).total_seconds()


def _has_news(agent: Mapping[str, Any], beat: Heartbeat) -> bool:
    """Say whether the beat may tell something new: most do not, and cost no decoding."""
    told = beat.exit is not None or beat.outputs is not None
    told = told or beat.preempted or beat.maintenance is not None
    return told or agent["state"] != beat.state.value


def _merge(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    beat: Heartbeat,
    values: dict[str, Any],
    now: datetime,
) -> bool:
    """Add what the beat tells to `values`; return whether it was new, and wake the run if so."""
    before = _agent(row)
    seen = _merged(before, beat, now)
    if seen == before:
        return False
    values["agent"] = _agent_json(seen)
    return wake(connection, row.run_id, now)


def _update(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    seq: int,
    values: Mapping[str, Any],
    now: datetime,
) -> None:
    heard_at = max(now, row.heartbeat_at)
    told = {"instance": row.name, "heard_at": heard_at, "accepted_seq": seq}
    connection.execute(_QUIET_BEAT, told)
    if values:
        connection.execute(update(instances).where(instances.c.name == row.name).values(**values))


def _merged(seen: AgentSeen, beat: Heartbeat, now: datetime) -> AgentSeen:
    """Add a heartbeat's facts: states only go forward, the first exit and the first list stay."""
    done = beat.state is AgentState.DONE
    return replace(
        seen,
        state=max(seen.state, beat.state, key=_ORDER.index),
        exit=seen.exit if seen.exit is not None else beat.exit,
        exit_at=seen.exit_at or (now if beat.exit is not None else None),
        outputs=beat.outputs if seen.outputs is None and done else seen.outputs,
        preempted=seen.preempted or beat.preempted,
        maintenance=seen.maintenance or (beat.maintenance and clean_text(beat.maintenance)),
    )


def _insert_events(
    connection: Connection, row: Row[*tuple[Any, ...]], fed: Fed, now: datetime
) -> None:
    values = [
        {
            "run_id": row.run_id,
            "attempt": row.attempt,
            "rank": row.rank,
            "kind": event.kind.value,
            "at": _believed(event, row, now),
            "body": event.body,
        }
        for event in fed.events
    ]
    if values:
        connection.execute(insert(events), values)


def _believed(event: AgentEvent, row: Row[*tuple[Any, ...]], now: datetime) -> datetime:
    """Believe the agent's clock only between its enrolment and now: it may be a year off."""
    return event.at if row.enrolled_at <= event.at <= now else now


def _agent_json(seen: AgentSeen) -> Any:
    value = encode(seen)
    # These two have columns of their own: a beat without news rewrites no JSON.
    del value["enrolled_at"], value["heartbeat_at"]
    return clean(value)


def _agent(row: Row[*tuple[Any, ...]]) -> AgentSeen:
    moments = {"enrolled_at": encode(row.enrolled_at), "heartbeat_at": encode(row.heartbeat_at)}
    return decode(AgentSeen, row.agent | moments)


def _instance(row: Row[*tuple[Any, ...]]) -> InstanceRow:
    return InstanceRow(
        name=row.name,
        run_id=row.run_id,
        attempt=row.attempt,
        rank=row.rank,
        provider_name=row.provider,
        repository_id=row.repository_id,
        ordered_at=row.ordered_at,
        nonce=row.nonce,
        token_sha256=row.token_sha256,
        agent=None if row.agent is None else _agent(row),
        facts=None if row.facts is None else decode(Facts, row.facts),
        create=None if row.create_seen is None else decode(CreateSeen, row.create_seen),
        provider=None if row.provider_seen is None else decode(ProviderSeen, row.provider_seen),
        stop=row.stop,
        deadline_at=row.deadline_at,
        closed_at=row.closed_at,
        heartbeat_seq=row.heartbeat_seq,
        log_bytes=row.log_bytes,
    )
