"""Keep what is seen of each instance; written by the agent's door and by `perform`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from cynthus.codec import decode, encode
from cynthus.frozen import replace
from cynthus.wire import AgentState, EventKind, Facts, Heartbeat, Rendezvous
from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.lending import Gone
from webhook_server.runs.observations import AgentSeen, CreateSeen, InstanceSeen, ProviderSeen
from webhook_server.stores import trail_store
from webhook_server.stores.clean import clean, clean_text
from webhook_server.stores.database import Database
from webhook_server.stores.heartbeats import HEARTBEATS, BeatResult, Told, agent_json, agent_of
from webhook_server.stores.tables import events, instances
from webhook_server.stores.waking import wake


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
        with self._db.read() as connection:
            return rows(connection, names)

    def seen(self, names: Collection[str]) -> dict[str, InstanceSeen]:
        """Return, by name, what a pass looks at of those of these instances that we ordered."""
        if not names:
            return {}
        with self._db.read() as connection:
            return seen(connection, names)

    def record_create(self, name: str, seen: CreateSeen) -> None:
        """Note how a create was answered and wake the run. Safe to repeat."""
        by = authority()

        def values(connection: Connection) -> Mapping[str, Any]:
            row = connection.execute(_CREATE_SEEN, {"of_name": name}).one()
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
            row = connection.execute(_PROVIDER_SEEN, {"of_name": name}).one()
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
            values = {"of_name": name, **told(connection)}
            run_id = connection.execute(_RECORD, values).scalar_one()
            wake(connection, run_id, now)

        self._db.write(work)

    def request_stop(self, name: str, text: str) -> None:
        """Let the answer to the next heartbeat say "stop"; the first sentence stays. Repeatable."""
        values = {"of_name": name, "stop": clean_text(text)}
        self._db.write(lambda connection: connection.execute(_STOP, values).rowcount)

    def meet(self, name: str, rendezvous: Rendezvous) -> None:
        """Let heartbeat answers say where the gang meets. Safe to repeat."""
        values = {"of_name": name, "rendezvous": encode(rendezvous)}
        self._db.write(lambda connection: connection.execute(_CHANGE, values).rowcount)

    def prolong(self, name: str, deadline_at: datetime) -> None:
        """Let heartbeat answers name another deadline than the work did. Safe to repeat."""
        values = {"of_name": name, "deadline_at": deadline_at}
        self._db.write(lambda connection: connection.execute(_CHANGE, values).rowcount)

    def close(self, name: str, now: datetime) -> None:
        """Refuse from here on whatever the instance's agent sends. Safe to repeat."""
        self._db.write(lambda connection: close(connection, name, now))

    def note_swept(self, provider: str, name: str, now: datetime) -> None:
        """Keep in the trail that something unknown is about to be deleted; each call is a deed."""
        by = authority()
        self._db.write(
            lambda connection: trail_store.add(connection, by, [deeds.swept(provider, name)], now)
        )

    # ── the agent's door ───────────────────────────────────────────────────────────────────────

    def enrol(
        self, name: str, *, nonce: str, token_sha256: str, facts: Facts, now: datetime
    ) -> Enrolling:
        """Bind the instance to the one agent with this nonce and wake the run. Safe to repeat."""

        def work(connection: Connection) -> Enrolling:
            row = connection.execute(_ENROLLING, {"of_name": name}).one_or_none()
            answer = _enrolling(row, nonce)
            if row is not None and answer is Enrolling.OK:
                first = AgentSeen(
                    enrolled_at=now,
                    heartbeat_at=now,
                    state=AgentState.PREPARING,
                    engine=clean_text(facts.engine),
                    address=facts.address and clean_text(facts.address),
                )
                values = {
                    "of_name": name,
                    "nonce": nonce,
                    "token_sha256": token_sha256,
                    "enrolled_at": now,
                    "heartbeat_at": now,
                    "agent": agent_json(first),
                    "facts": clean(encode(facts)),
                }
                connection.execute(_CHANGE, values)
                _add_marks(connection, row, facts, now)
                wake(connection, row.run_id, now)
            return answer

        return self._db.write_at_door(work)

    def by_token(self, token_sha256: str) -> InstanceRow | None:
        """Return the instance whose agent holds this token."""
        with self._db.read() as connection:
            row = connection.execute(_BY_TOKEN, {"of_token": token_sha256}).one_or_none()
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
        told = Told(token_sha256=token_sha256, beat=beat, log_limit_bytes=log_limit_bytes, now=now)
        return self._db.write_row_async(HEARTBEATS, told)


def rows(connection: Connection, names: Collection[str]) -> list[InstanceRow]:
    """Return all that is known of those of these instances that we ordered."""
    found = connection.execute(_BY_NAMES, {"names": list(names)})
    return [_instance(row) for row in found]


def seen(connection: Connection, names: Collection[str]) -> dict[str, InstanceSeen]:
    """Return, by name, what a pass looks at of those of these instances that we ordered."""
    if not names:
        return {}
    found = connection.execute(_SEEN, {"names": list(names)})
    return {row.name: _seen(row) for row in found}


def unfinished(connection: Connection, provider: str) -> list[str]:
    """Return the names of the provider's instances whose attempts are not closed."""
    return list(connection.execute(_UNFINISHED, {"of_provider": provider}).scalars())


def close(connection: Connection, name: str, now: datetime) -> None:
    """Refuse from here on what the agent sends, within a larger transaction. Safe to repeat."""
    connection.execute(_CLOSE, {"of_name": name, "closed_at": now})


def add(connection: Connection, row: Mapping[str, Any], before: str | None) -> None:
    """Insert a new attempt's instance; the feed's counts go on from the attempt `before`."""
    told = connection.execute(_COUNTS, {"of_name": before}) if before else None
    counts = told.scalar_one_or_none() if told else None
    connection.execute(_INSERT, {"counts": counts or {}, **row})


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
    connection.execute(_INSERT_EVENTS, values)


# ── statements: built once, which costs more than carrying them out ─────────────────────────────

_IS = instances.c.name == bindparam("of_name")
_BY_NAMES = select(instances).where(instances.c.name.in_(bindparam("names", expanding=True)))
_SEEN = select(
    instances.c.name,
    instances.c.enrolled_at,
    instances.c.heartbeat_at,
    instances.c.agent,
    instances.c.create_seen,
    instances.c.provider_seen,
    instances.c.deadline_at,
    instances.c.closed_at,
).where(instances.c.name.in_(bindparam("names", expanding=True)))
_BY_TOKEN = select(instances).where(instances.c.token_sha256 == bindparam("of_token"))
_ENROLLING = select(instances).where(_IS).with_for_update()
_WHOSE = (instances.c.run_id, instances.c.repository_id)
_CREATE_SEEN = select(instances.c.create_seen, *_WHOSE).where(_IS).with_for_update()
_PROVIDER_SEEN = select(instances.c.provider_seen, *_WHOSE).where(_IS).with_for_update()
_COUNTS = select(instances.c.counts).where(_IS)
_UNFINISHED = select(instances.c.name).where(
    instances.c.provider == bindparam("of_provider"), instances.c.closed_at.is_(None)
)
#: What follows is completed by the columns that its values name.
_CHANGE = update(instances).where(_IS)
_RECORD = _CHANGE.returning(instances.c.run_id)
_CLOSE = _CHANGE.where(instances.c.closed_at.is_(None))
_STOP = _CHANGE.where(instances.c.stop.is_(None))
_INSERT = insert(instances)
_INSERT_EVENTS = insert(events)

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


def _seen(row: Row[*tuple[Any, ...]]) -> InstanceSeen:
    return InstanceSeen(
        agent=None if row.agent is None else agent_of(row),
        create=None if row.create_seen is None else decode(CreateSeen, row.create_seen),
        provider=None if row.provider_seen is None else decode(ProviderSeen, row.provider_seen),
        closed=row.closed_at is not None,
        deadline_at=row.deadline_at,
    )


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
        agent=None if row.agent is None else agent_of(row),
        facts=None if row.facts is None else decode(Facts, row.facts),
        create=None if row.create_seen is None else decode(CreateSeen, row.create_seen),
        provider=None if row.provider_seen is None else decode(ProviderSeen, row.provider_seen),
        stop=row.stop,
        deadline_at=row.deadline_at,
        closed_at=row.closed_at,
        heartbeat_seq=row.heartbeat_seq,
        log_bytes=row.log_bytes,
    )
