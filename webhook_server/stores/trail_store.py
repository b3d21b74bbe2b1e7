"""Keep the trail: who did what, why, by which right. Rows are added and never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select

from cynthus.codec import decode, encode
from webhook_server.acting import authority
from webhook_server.runs.trail import Authority, Deed, TrailRow
from webhook_server.stores.clean import clean, clean_text
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import PURGE_BEFORE, server_state, trail

#: Replicas number their rows before they commit them, so that a lower number may become visible
#: after a higher one. Whoever pages by number waits this long: no transaction of ours takes longer.
SETTLES = timedelta(seconds=30)
_LONGEST_TEXT = 2000  # a sentence and its reasons; what users wrote in full is on GitHub
_DAYS_A_MONTH = 31  # the longest, so that nothing goes early
_PURGED_AT_ONCE = 10_000  # rows a transaction: others write meanwhile


_INSERT = insert(trail)  # built once: nearly every save adds a line


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows: all conditions hold; what is None or empty asks for nothing."""

    repository_id: int | None = None
    run_id: str | None = None
    actor: str = ""  # login, any case
    verb: str = ""
    since: datetime | None = None
    until: datetime | None = None


class TrailStore:
    """Reads the table `trail`; `add` writes it within the transaction of the effect."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def tell(self, deed: Deed, now: datetime) -> None:
        """Keep a deed that changes no row of ours: a refusal, a deletion of what is unknown."""
        by = authority()
        self._db.write(lambda connection: add(connection, by, [deed], now))

    def after(self, seq: int, wanted: Wanted, *, limit: int, now: datetime) -> list[TrailRow]:
        """Return rows beyond `seq`, oldest first: what an export pages through.

        On a shared database the newest half minute is left for the next page: see `SETTLES`.
        """
        query = _where(wanted).where(trail.c.seq > seq)
        if self._db.may_be_shared:
            query = query.where(trail.c.at <= now - SETTLES)
        return self._rows(query.order_by(trail.c.seq).limit(limit))

    def newest(self, wanted: Wanted, *, limit: int, before: int | None = None) -> list[TrailRow]:
        """Return the newest rows first; `before` is the last row's `seq` of the page before."""
        query = _where(wanted)
        if before is not None:
            query = query.where(trail.c.seq < before)
        return self._rows(query.order_by(trail.c.seq.desc()).limit(limit))

    def purge(self, months: int, now: datetime) -> int:
        """Delete rows older than so many months, at least one; return how many. Safe to repeat.

        The database refuses every other deletion: the bound that its guard compares with stands
        in `server_state` within this transaction only.
        """
        before = now - timedelta(days=_DAYS_A_MONTH * max(months, 1))
        purged = 0
        while (number := self._db.write(lambda connection: _purge(connection, before))) > 0:
            purged += number
        return purged

    def _rows(self, query: Select[Any]) -> list[TrailRow]:
        with self._db.read() as connection:
            return [_row(row) for row in connection.execute(query)]


def add(connection: Connection, by: Authority, deeds: Iterable[Deed], now: datetime) -> None:
    """Add deeds within a larger transaction; one with a key that is known adds nothing."""
    told = [_values(by, deed, now) for deed in deeds]
    if rows := [values for values in told if values["once"] is None]:
        connection.execute(_INSERT, rows)
    for values in told:
        if values["once"] is not None:
            insert_once(connection, trail, values)


def _values(by: Authority, deed: Deed, now: datetime) -> dict[str, Any]:
    return {
        "at": now,
        "verb": deed.verb.value,
        "done": deed.done,
        "text": clean_text(deed.text)[:_LONGEST_TEXT],
        "actor_kind": by.actor.kind.value,
        "actor_id": by.actor.id,
        "actor": clean_text(by.actor.name),
        "actor_folded": clean_text(by.actor.name).casefold(),
        "source": clean_text(by.source),
        "proof": clean(encode(by.proof)),
        "repository_id": deed.repository_id,
        "run_id": deed.run_id,
        "subject": clean_text(deed.subject),
        "before": clean(dict(deed.before)),
        "after": clean(dict(deed.after)),
        "once": deed.once,
    }


def _where(wanted: Wanted) -> Select[Any]:
    query = select(trail)
    conditions = (
        (wanted.repository_id, trail.c.repository_id == wanted.repository_id),
        (wanted.run_id, trail.c.run_id == wanted.run_id),
        (wanted.actor or None, trail.c.actor_folded == wanted.actor.casefold()),
        (wanted.verb or None, trail.c.verb == wanted.verb),
    )
    for given, condition in conditions:
        if given is not None:
            query = query.where(condition)
    if wanted.since is not None:
        query = query.where(trail.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(trail.c.at < wanted.until)
    return query


def _row(row: Row[Any]) -> TrailRow:
    who = {"kind": row.actor_kind, "name": row.actor, "id": row.actor_id}
    by = {"actor": who, "source": row.source, "proof": row.proof}
    deed = {
        "verb": row.verb,
        "repository_id": row.repository_id,
        "run_id": row.run_id,
        "subject": row.subject,
        "done": row.done,
        "text": row.text,
        "before": row.before,
        "after": row.after,
        "once": row.once,
    }
    return TrailRow(
        seq=row.seq, at=row.at, authority=decode(Authority, by), deed=decode(Deed, deed)
    )


def _purge(connection: Connection, before: datetime) -> int:
    key = server_state.c.key == PURGE_BEFORE
    connection.execute(delete(server_state).where(key))
    # As text that sorts like the time: the guard of either database compares it so.
    bound = before.strftime("%Y-%m-%d %H:%M:%S.%f")
    connection.execute(insert(server_state).values(key=PURGE_BEFORE, value=bound))
    old = select(trail.c.seq).where(trail.c.at < before).order_by(trail.c.seq)
    seqs = list(connection.execute(old.limit(_PURGED_AT_ONCE)).scalars())
    connection.execute(delete(trail).where(trail.c.seq.in_(seqs)))
    connection.execute(delete(server_state).where(key))
    return len(seqs)
