"""Keep who builds which environment, so that one builds it and the others wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from cynthus.wire_image import BuildLeaseAsk, BuildLeaseView
from webhook_server.stores.database import Database, insert_once, lease_clock, lease_end
from webhook_server.stores.tables import build_leases

# A builder asks again every 40 s: two calls may be lost. Whoever waits for one that died loses two
# minutes of a build that takes longer.
LEASE = timedelta(seconds=120)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # of a row that nobody has held yet


class BuildLeaseStore:
    """Reads and writes the table `build_leases`, which all replicas share."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def ask(self, owner_id: int, ask: BuildLeaseAsk, now: datetime) -> BuildLeaseView:
        """Lend the key to the holder, or prolong what it has; else say who has it, until when.

        Safe to repeat. By the database's clock where replicas share one.
        """

        def work(connection: Connection) -> BuildLeaseView:
            nobody = {"owner_id": owner_id, "key": ask.key, "holder": "", "until": _NEVER}
            insert_once(connection, build_leases, nobody)
            free = build_leases.c.until < lease_clock(connection, now)
            until = lease_end(connection, now, LEASE)
            granted = connection.execute(
                update(build_leases)
                .where(_is(owner_id, ask.key), or_(free, build_leases.c.holder == ask.holder))
                .values(holder=ask.holder, until=until)
            ).rowcount
            row = connection.execute(select(build_leases).where(_is(owner_id, ask.key))).one()
            return BuildLeaseView(granted=granted == 1, holder=row.holder, until=row.until)

        return self._db.write(work)

    def give_back(self, owner_id: int, ask: BuildLeaseAsk, now: datetime) -> BuildLeaseView:
        """End the holder's lease; another's stays, and is told. Safe to repeat."""

        def work(connection: Connection) -> BuildLeaseView:
            mine = build_leases.c.holder == ask.holder
            connection.execute(delete(build_leases).where(_is(owner_id, ask.key), mine))
            query = select(build_leases).where(_is(owner_id, ask.key))
            row = connection.execute(query).one_or_none()
            if row is None:
                return BuildLeaseView(granted=False, holder=ask.holder, until=now)
            return BuildLeaseView(granted=False, holder=row.holder, until=row.until)

        return self._db.write(work)

    def prune(self, before: datetime) -> int:
        """Drop leases that ended long ago; return how many. Safe to repeat."""
        statement = delete(build_leases).where(build_leases.c.until < before)
        return self._db.write(lambda connection: connection.execute(statement).rowcount)


def _is(owner_id: int, key: str) -> ColumnElement[bool]:
    return and_(build_leases.c.owner_id == owner_id, build_leases.c.key == key)
