"""Keep which places refused which machines, until when nobody asks them again."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, select, update

from webhook_server.runs.lending import CoolDown, Denial
from webhook_server.stores.clean import clean_text
from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import Moment, cool_downs

_DOUBLINGS = 20  # beyond any longest wait: 2^20 s are twelve days


class CoolDownStore:
    """Reads and writes the table `cool_downs`, which all replicas share."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, entry: CoolDown, now: datetime, longest: timedelta) -> None:
        """Note a refusal; `entry.until` is the end of a first one, which each in a row doubles.

        Safe to repeat: while a place cools down, further refusals prolong nothing.
        """

        def work(connection: Connection) -> None:
            first = {**_key(entry), "until": now, "strikes": 0, "denial": "", "text": ""}
            insert_once(connection, cool_downs, first)
            row = connection.execute(
                select(cool_downs.c.until, cool_downs.c.strikes).where(_is(entry)).with_for_update()
            ).one()
            if row.until > now:
                return
            strikes = row.strikes if row.until + longest > now else 0
            wait = min((entry.until - now) * 2 ** min(strikes, _DOUBLINGS), longest)
            connection.execute(
                update(cool_downs)
                .where(_is(entry))
                .values(
                    until=now + wait,
                    strikes=strikes + 1,
                    denial=entry.denial.value,
                    text=clean_text(entry.text),
                )
            )

        self._db.write(work)

    def current(self, provider: str, now: datetime) -> tuple[CoolDown, ...]:
        """Return what cools down at this provider."""
        values = {"of_provider": provider, "now": now}
        with self._db.read() as connection:
            return tuple(
                CoolDown(
                    provider=row.provider,
                    place=row.place,
                    machine=row.machine,
                    spot=row.spot,
                    until=row.until,
                    denial=Denial(row.denial),
                    text=row.text,
                )
                for row in connection.execute(_CURRENT, values)
            )

    def prune(self, before: datetime) -> int:
        """Drop what cooled down long ago; return how many. Safe to repeat."""
        statement = delete(cool_downs).where(cool_downs.c.until < before)
        return self._db.write(lambda connection: connection.execute(statement).rowcount)


# Built once: asked before each order.
_CURRENT = select(cool_downs).where(
    cool_downs.c.provider == bindparam("of_provider"),
    cool_downs.c.until > bindparam("now", type_=Moment()),
)


def _key(entry: CoolDown) -> dict[str, object]:
    return {
        "provider": entry.provider,
        "place": entry.place,
        "machine": entry.machine,
        "spot": entry.spot,
    }


def _is(entry: CoolDown) -> ColumnElement[bool]:
    return and_(*(cool_downs.c[name] == value for name, value in _key(entry).items()))
