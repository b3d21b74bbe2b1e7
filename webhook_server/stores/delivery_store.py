"""Keep GitHub's deliveries until they are handled; remember which intents were carried out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    Update,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from webhook_server.acting import authority
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.stores import trail_store
from webhook_server.stores.database import (
    Database,
    bound_lease_clock,
    bound_lease_end,
    insert_once,
    lease_values,
    own_clock,
)
from webhook_server.stores.engines import LeaseClock
from webhook_server.stores.many_rows import ManyRows, stored_moment
from webhook_server.stores.tables import deliveries, delivery_bodies, handled_intents
from webhook_server.stores.writer import Joint

_SEEN = "delivery_seen_at"  # server_state


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DONE = "done"
    IGNORED = "ignored"  #: it asks for nothing of ours; the note says why
    PARKED = "parked"  #: it could not be handled; the note says why


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One webhook POST, exactly as signed."""

    seq: int
    guid: str
    event: str
    body: bytes
    received_at: datetime
    tries: int  # passes so far, this one included
    token: str  # proves the claim


@dataclass(frozen=True, kw_only=True)
class _Arrived:
    """A delivery as it came."""

    guid: str
    event: str
    body: bytes
    at: datetime


_KNOWN = ManyRows("SELECT guid FROM deliveries WHERE guid IN (VALUES ", "(?)", ")")
_ADD = ManyRows(
    "INSERT INTO deliveries (guid, event, received_at, due_at, state, note, tries) VALUES ",
    "(?, ?, ?, ?, 'pending', '', 0)",
    " ON CONFLICT DO NOTHING",
)
# Of a delivery that is stored and has not ended: another replica may have been first.
_ADD_BODIES = ManyRows(
    "INSERT INTO delivery_bodies (seq, body) SELECT d.seq, told.column2 FROM (VALUES ",
    "(?, ?)",
    ") AS told JOIN deliveries AS d ON d.guid = told.column1 WHERE d.due_at IS NOT NULL"
    " ON CONFLICT DO NOTHING",
)


def _store(connection: Connection, arrived: Sequence[_Arrived]) -> list[bool]:
    """Store deliveries; answer of each whether it is new. Safe to repeat.

    Of two replicas that get the same one at the same moment, both may call it new: it is stored
    once.
    """
    known = {row.guid for row in _KNOWN.execute(connection, [(one.guid,) for one in arrived])}
    fresh = {one.guid: one for one in reversed(arrived) if one.guid not in known}
    _ADD.execute(connection, [_row(connection, one) for one in fresh.values()])
    _ADD_BODIES.execute(connection, [(one.guid, one.body) for one in fresh.values()])
    return [fresh.get(one.guid) is one for one in arrived]


def _row(connection: Connection, arrived: _Arrived) -> tuple[Any, ...]:
    at = stored_moment(connection, arrived.at)
    return arrived.guid, arrived.event, at, at


_STORE: Joint[_Arrived, bool] = Joint(_store, at_door=True)


@functools.cache
def _claiming(clock: LeaseClock | None, lease: timedelta) -> tuple[Select[Any], Update]:
    """Return what finds deliveries that are due, and what lends them. Built once."""
    free = or_(
        deliveries.c.lock_until.is_(None), deliveries.c.lock_until < bound_lease_clock(clock)
    )
    query = (
        select(
            deliveries.c.seq,
            deliveries.c.guid,
            deliveries.c.event,
            delivery_bodies.c.body,
            deliveries.c.received_at,
            deliveries.c.tries,
        )
        .join(delivery_bodies, delivery_bodies.c.seq == deliveries.c.seq)
        .where(deliveries.c.due_at <= bindparam("now"), free)
        .order_by(deliveries.c.due_at, deliveries.c.seq)
        .limit(bindparam("most", type_=Integer()))
        .with_for_update(skip_locked=True, of=deliveries)
    )
    lend = (
        update(deliveries)
        .where(deliveries.c.seq.in_(bindparam("claimed", expanding=True)))
        .values(
            lock_token=bindparam("claim_token"),
            lock_until=bound_lease_end(clock, lease),
            tries=deliveries.c.tries + 1,
        )
    )
    return query, lend


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """A claimed delivery, and what its columns become."""

    seq: int
    token: str
    values: Mapping[str, Any]
    empties: bool = False  # its body has been of use


_HELD = (
    select(deliveries.c.seq, deliveries.c.lock_token)
    .where(deliveries.c.seq.in_(bindparam("claimed", expanding=True)))
    .order_by(deliveries.c.seq)
    .with_for_update()
)
_OF_SEQ = update(deliveries).where(deliveries.c.seq == bindparam("claimed"))
_EMPTY = delete(delivery_bodies).where(
    delivery_bodies.c.seq.in_(bindparam("handled", expanding=True))
)


def _end(connection: Connection, ended: Sequence[_Ended]) -> list[bool]:
    """End claims; answer of each whether it still held. Safe to repeat."""
    rows = connection.execute(_HELD, {"claimed": sorted({one.seq for one in ended})})
    holders = {row.seq: row.lock_token for row in rows}
    answers: list[bool] = []
    handled: list[int] = []
    same: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in ended:
        held = holders.get(one.seq) == one.token
        answers.append(held)
        if held:
            holders[one.seq] = None  # whoever comes second has nothing left to end
            values = {"lock_token": None, "lock_until": None, **one.values}
            same.setdefault(tuple(values), []).append({"claimed": one.seq, **values})
            handled += [one.seq] if one.empties else []
    for rows_of_a_kind in same.values():
        connection.execute(_OF_SEQ, rows_of_a_kind)
    if handled:
        connection.execute(_EMPTY, {"handled": handled})
    return answers


_END: Joint[_Ended, bool] = Joint(_end, at_door=False)


class DeliveryStore:
    """Reads and writes the tables `deliveries`, `delivery_bodies` and `handled_intents`."""

    def __init__(self, db: Database, new_token: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._db = db
        self._new_token = new_token

    def store_async(self, guid: str, event: str, body: bytes, now: datetime) -> Future[bool]:
        """Store a delivery; the future is False if it was known already. Safe to repeat."""
        arrived = _Arrived(guid=guid, event=event, body=body, at=now)
        return self._db.write_row_async(_STORE, arrived)

    def see_async(self, now: datetime) -> Future[None]:
        """Note that a signed delivery arrived which is not kept: a ping, or a known one again."""
        return self._db.set_state_async(_SEEN, now.isoformat())

    def arrived_since(self, moment: datetime) -> bool:
        """Say whether a signed delivery came to any of this server's doors since `moment`."""
        seen = self._db.state(_SEEN)
        if seen is not None and datetime.fromisoformat(seen) >= moment:
            return True
        return any(at >= moment for _, at in self.last_guid_times(1))

    def claim(self, limit: int, lease: timedelta, now: datetime) -> list[Delivery]:
        """Take due deliveries, oldest first, for `lease`. Nobody else gets them meanwhile."""
        return self._db.write(lambda connection: self._claim(connection, limit, lease, now))

    def _claim(
        self, connection: Connection, limit: int, lease: timedelta, now: datetime
    ) -> list[Delivery]:
        clock = own_clock(connection)
        query, lend = _claiming(clock, lease)
        token = self._new_token()
        found = [
            Delivery(
                seq=row.seq,
                guid=row.guid,
                event=row.event,
                body=row.body,
                received_at=row.received_at,
                tries=row.tries + 1,
                token=token,
            )
            for row in connection.execute(query, {"now": now, "most": limit})
        ]
        claimed = [delivery.seq for delivery in found]
        values = {"claimed": claimed, "claim_token": token, **lease_values(clock, now, lease)}
        connection.execute(lend, values)
        return found

    def finish(self, delivery: Delivery, state: DeliveryState, note: str, now: datetime) -> bool:
        """End a delivery; its body is deleted unless it is parked. False: the claim was lost.

        Safe to repeat. `now` may not precede its arrival.
        """
        return self.finish_async(delivery, state, note, now).result()

    def finish_async(
        self, delivery: Delivery, state: DeliveryState, note: str, now: datetime
    ) -> Future[bool]:
        """As `finish`, for a loop that has more in hand: many ends share a commit."""
        values: dict[str, Any] = {"state": state.value, "note": note, "due_at": None}
        if now < delivery.received_at:
            refused: Future[bool] = Future()
            refused.set_result(False)
            return refused
        return self._end(delivery, values, empties=state is not DeliveryState.PARKED)

    def retry(self, delivery: Delivery, due_at: datetime, note: str) -> bool:
        """Let the delivery be due again at `due_at`. False: the claim was lost. Repeatable."""
        return self._end(delivery, {"due_at": due_at, "note": note}).result()

    def _end(
        self, delivery: Delivery, values: Mapping[str, Any], *, empties: bool = False
    ) -> Future[bool]:
        ended = _Ended(seq=delivery.seq, token=delivery.token, values=values, empties=empties)
        return self._db.write_row_async(_END, ended)

    def next_due(self) -> datetime | None:
        """Return when the next delivery is due."""
        query = select(func.min(deliveries.c.due_at)).where(deliveries.c.due_at.is_not(None))
        with self._db.read() as connection:
            found: datetime | None = connection.execute(query).scalar_one()
        return found

    def known(self, guids: Iterable[str]) -> set[str]:
        """Return which of these deliveries are stored."""
        query = select(deliveries.c.guid).where(deliveries.c.guid.in_(list(guids)))
        with self._db.read() as connection:
            return set(connection.execute(query).scalars())

    def last_guid_times(self, limit: int) -> list[tuple[str, datetime]]:
        """Return the newest deliveries' ids with their arrival, newest first."""
        query = (
            select(deliveries.c.guid, deliveries.c.received_at)
            .order_by(deliveries.c.seq.desc())
            .limit(limit)
        )
        with self._db.read() as connection:
            return [(row.guid, row.received_at) for row in connection.execute(query)]

    def handle_once(
        self,
        key: str,
        proof: Mapping[str, Any],
        *,
        allowed: bool,
        run_id: str | None,
        now: datetime,
    ) -> bool:
        """Note that an intent is carried out or refused; False: it was before.

        A repeat returns False and changes nothing: carry the intent out by means that are safe to
        repeat, then note it.
        """
        values = {"key": key, "at": now, "run_id": run_id, "proof": dict(proof), "allowed": allowed}
        return self._db.write(lambda connection: insert_once(connection, handled_intents, values))

    def note_refusal(self, repository_id: int, key: str, about: tuple[str, str]) -> None:
        """Keep in the trail that an ask was refused, once: its subject, and why. Repeatable."""
        by, (subject, why) = authority(), about
        deed = Deed(
            verb=DeedVerb.ASK,
            repository_id=repository_id,
            subject=subject,
            done=False,
            text=why,
            once=f"refused/{key}/{by.actor.id}",
        )
        now = self._db.now()
        self._db.write(lambda connection: trail_store.add(connection, by, [deed], now))

    def was_handled(self, key: str) -> bool:
        """Say whether the intent was carried out or refused."""
        query = select(handled_intents.c.key).where(handled_intents.c.key == key)
        with self._db.read() as connection:
            return connection.execute(query).first() is not None
