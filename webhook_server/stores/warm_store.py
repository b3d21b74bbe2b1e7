"""Keep which instances wait for their repository's next run, who took them, what that cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    or_,
    select,
    update,
)

from cynthus.codec import decode, encode
from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import millionths
from webhook_server.runs.model import Attempt, Run
from webhook_server.runs.observations import Kept
from webhook_server.runs.policy import policy_of
from webhook_server.runs.warm import idle_usd, kept, worst_usd
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import kept_instances as table

# Built once: all but the first are carried out whether anything is kept or not.
_OF = select(table).where(table.c.kept_by == bindparam("of_name"))
_HEAR = update(table).where(table.c.kept_by == bindparam("of_name"), table.c.ended_at.is_(None))
_WAITING = select(table).where(
    table.c.repository_id == bindparam("of_repository"), table.c.ended_at.is_(None)
)
_UNFINISHED = select(table).where(table.c.gone_at.is_(None), table.c.taken_by.is_(None))
_USERS = (
    select(table)
    .where(table.c.machine.in_(bindparam("machines", expanding=True)), table.c.gone_at.is_(None))
    .order_by(table.c.since)
)
_LISTED = 200  # newest first; a fleet that keeps more is looked at in the cloud's own console


class WarmStore:
    """Reads and writes the table `kept_instances`; `RunStore.save` keeps and takes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def waiting(self, repository_id: int) -> tuple[Kept, ...]:
        """Return what waits for runs of this repository, and for no other's."""
        return self._all(_WAITING, {"of_repository": repository_id})

    def unfinished(self) -> tuple[Kept, ...]:
        """Return everything that waits or is being given back."""
        with self._db.read() as connection:
            return unfinished(connection)

    def newest(self) -> tuple[Kept, ...]:
        """Return the newest of all, those that are gone included."""
        query = select(table).order_by(table.c.since.desc()).limit(_LISTED)
        with self._db.read() as connection:
            return tuple(_kept(row) for row in connection.execute(query))

    def of(self, kept_by: str) -> Kept | None:
        """Return what was kept of an attempt's instance."""
        found = self._all(_OF, {"of_name": kept_by})
        return found[0] if found else None

    def hear(self, kept_by: str, now: datetime) -> None:
        """Note that the agent asked for work. Safe to repeat."""
        values = {"of_name": kept_by, "heard_at": now}
        self._db.write(lambda connection: connection.execute(_HEAR, values))

    def end(self, one: Kept, now: datetime) -> bool:
        """Let nobody take it any more; False: somebody has. Safe to repeat."""
        if one.ended_at is not None:
            return one.taken_by is None
        statement = (
            update(table)
            .where(table.c.kept_by == one.kept_by, table.c.ended_at.is_(None))
            .values(ended_at=now)
        )
        return self._end(statement, now) == 1

    def end_of(self, repository_id: int, run_ids: Iterable[str], now: datetime) -> int:
        """Let nobody take what these runs of a repository keep; return how much that is.

        Whoever looks after what is kept gives it back then. Safe to repeat.
        """
        statement = (
            update(table)
            .where(
                table.c.repository_id == repository_id,
                table.c.run_id.in_(list(run_ids)),
                table.c.ended_at.is_(None),
            )
            .values(ended_at=now)
        )
        return self._end(statement, now)

    def _end(self, statement: Update, now: datetime) -> int:
        by = authority()
        told = statement.returning(table.c.repository_id, table.c.run_id, table.c.machine)

        def work(connection: Connection) -> int:
            rows = connection.execute(told).all()
            done = [deeds.given_back(row.repository_id, row.run_id, row.machine) for row in rows]
            trail_store.add(connection, by, done, now)
            return len(rows)

        return self._db.write(work)

    def gone(self, one: Kept, at: datetime) -> None:
        """Note that the provider said "not found": from here on it costs nothing."""
        over = Kept(**{**vars(one), "gone_at": at})
        statement = (
            update(table)
            .where(table.c.kept_by == one.kept_by, table.c.gone_at.is_(None))
            .values(gone_at=at, booked_microusd=millionths(idle_usd(over, at)))
        )
        self._db.write(lambda connection: connection.execute(statement))

    def _all(self, query: Select[Any], values: Mapping[str, Any]) -> tuple[Kept, ...]:
        with self._db.read() as connection:
            return tuple(_kept(row) for row in connection.execute(query, values))


def users(connection: Connection, machines: Iterable[str]) -> dict[str, str]:
    """Return, of these machines, those that wait or were taken: the last name of each.

    A machine that waits has the name under which it worked before; one that was taken that
    under which it works now. One that is gone is not among them.
    """
    rows = connection.execute(_USERS, {"machines": list(machines)})
    return {row.machine: row.taken_by or row.kept_by for row in rows}


def unfinished(connection: Connection) -> tuple[Kept, ...]:
    """Return everything that waits or is being given back."""
    return tuple(_kept(row) for row in connection.execute(_UNFINISHED))


# ── parts of a save ─────────────────────────────────────────────────────────────────────────────


def keep(connection: Connection, run: Run, attempt: Attempt, now: datetime) -> None:
    """Let an attempt's instance wait, in the transaction that ends the attempt. Safe to repeat."""
    one = kept(run, attempt, now)
    worst = worst_usd(one, now, policy_of(one.offer.provider))
    row = {**vars(one), "offer": encode(one.offer), "booked_microusd": millionths(worst)}
    insert_once(connection, table, row)


def take(connection: Connection, run: Run, attempt: Attempt, now: datetime) -> bool:
    """Give an instance that waits to a new attempt; False: it is another's, or gone.

    Only one that waits for this repository, and for as long as nobody else has it.
    """
    member = attempt.members[0]
    statement = (
        update(table)
        .where(
            table.c.machine == attempt.offer.warm,
            table.c.repository_id == run.key.repository_id,
            table.c.ended_at.is_(None),
            table.c.until > now,
        )
        .values(taken_by=member.name, ended_at=now)
        .returning(*table.c)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return False
    booked = millionths(idle_usd(_kept(row), now))
    connection.execute(
        update(table).where(table.c.kept_by == row.kept_by).values(booked_microusd=booked)
    )
    return True


def counts(month_began_at: datetime) -> ColumnElement[bool]:
    """Return which rows count against the budgets of a month: live ones, and its own."""
    live = table.c.ended_at.is_(None) | (table.c.taken_by.is_(None) & table.c.gone_at.is_(None))
    return or_(live, table.c.gone_at >= month_began_at, table.c.ended_at >= month_began_at)


def _kept(row: Row[*tuple[Any, ...]]) -> Kept:
    return Kept(
        machine=row.machine,
        repository_id=row.repository_id,
        offer=decode(Offer, row.offer),
        disk_bytes=row.disk_bytes,
        kept_by=row.kept_by,
        run_id=row.run_id,
        since=row.since,
        until=row.until,
        dies_at=row.dies_at,
        heard_at=row.heard_at,
        taken_by=row.taken_by,
        ended_at=row.ended_at,
        gone_at=row.gone_at,
    )
