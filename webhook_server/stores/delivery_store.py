"""Keep GitHub's deliveries until they are handled; remember which intents were carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, or_, select, update

from webhook_server.acting import authority
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.stores import trail_store
from webhook_server.stores.database import (
    Database,
    insert_once,
    insert_rows,
    lease_clock,
    lease_end,
)
from webhook_server.stores.tables import deliveries, handled_intents
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


_KNOWN = select(deliveries.c.guid).where(deliveries.c.guid.in_(bindparam("guids", expanding=True)))


def _store(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Store deliveries; answer of each whether it is new. Safe to repeat.

    Of two replicas that get the same one at the same moment, both may call it new: it is stored
    once.
    """
    known = set(connection.execute(_KNOWN, {"guids": [row["guid"] for row in rows]}).scalars())
    fresh = {row["guid"]: row for row in reversed(rows) if row["guid"] not in known}
    if fresh:
        insert_rows(connection, deliveries, list(fresh.values()))
    return [fresh.get(row["guid"]) is row for row in rows]


_STORE: Joint[Mapping[str, Any], bool] = Joint(_store)

# Built once, as the hot doors' statements are: what is delivered is ended as often.
_END = update(deliveries).where(
    deliveries.c.seq == bindparam("claimed"), deliveries.c.lock_token == bindparam("claim_token")
)


class DeliveryStore:
    """Reads and writes the tables `deliveries` and `handled_intents`."""

    def __init__(self, db: Database, new_token: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._db = db
        self._new_token = new_token

    def store_async(self, guid: str, event: str, body: bytes, now: datetime) -> Future[bool]:
        """Store a delivery; the future is False if it was known already. Safe to repeat."""
        values = {
            "guid": guid,
            "event": event,
            "body": body,
            "received_at": now,
            "state": DeliveryState.PENDING.value,
            "due_at": now,
        }
        return self._db.write_row_async(_STORE, values)

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
        free = or_(
            deliveries.c.lock_until.is_(None),
            deliveries.c.lock_until < lease_clock(connection, now),
        )
        query = (
            select(deliveries)
            .where(deliveries.c.due_at <= now, free)
            .order_by(deliveries.c.due_at, deliveries.c.seq)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
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
            for row in connection.execute(query)
        ]
        connection.execute(
            update(deliveries)
            .where(deliveries.c.seq.in_([delivery.seq for delivery in found]))
            .values(
                lock_token=token,
                lock_until=lease_end(connection, now, lease),
                tries=deliveries.c.tries + 1,
            )
        )
        return found

    def finish(self, delivery: Delivery, state: DeliveryState, note: str, now: datetime) -> bool:
        """End a delivery; its body is emptied unless it is parked. False: the claim was lost.

        Safe to repeat. `now` may not precede its arrival.
        """
        return self.finish_async(delivery, state, note, now).result()

    def finish_async(
        self, delivery: Delivery, state: DeliveryState, note: str, now: datetime
    ) -> Future[bool]:
        """As `finish`, for a loop that has more in hand: many ends share a commit."""
        values: dict[str, Any] = {"state": state.value, "note": note, "due_at": None}
        if state is not DeliveryState.PARKED:
            values["body"] = b""
        if now < delivery.received_at:
            refused: Future[bool] = Future()
            refused.set_result(False)
            return refused
        return self._end(delivery, values)

    def retry(self, delivery: Delivery, due_at: datetime, note: str) -> bool:
        """Let the delivery be due again at `due_at`. False: the claim was lost. Repeatable."""
        return self._end(delivery, {"due_at": due_at, "note": note}).result()

    def _end(self, delivery: Delivery, values: Mapping[str, Any]) -> Future[bool]:
        freed = {"lock_token": None, "lock_until": None, **values}
        known = {"claimed": delivery.seq, "claim_token": delivery.token, **freed}
        return self._db.write_async(
            lambda connection: connection.execute(_END, known).rowcount == 1
        )

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
