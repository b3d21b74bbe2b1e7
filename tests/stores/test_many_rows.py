"""Statements for many rows do on both databases what one row after another would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, select

from webhook_server.stores import delivery_store
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryState, DeliveryStore
from webhook_server.stores.many_rows import (
    MOST,
    EachRow,
    ManyRows,
    json_of,
    moment_of,
    stored_moment,
)
from webhook_server.stores.tables import deliveries, delivery_bodies, server_state

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PUT = ManyRows("INSERT INTO server_state (key, value) VALUES ", "(?, ?)", " ON CONFLICT DO NOTHING")
FIND = ManyRows("SELECT value FROM server_state WHERE key IN (VALUES ", "(?)", ") ORDER BY key")


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"{n:04d}", f"value {n}") for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, MOST - 1, MOST, MOST + 1, 3 * MOST + 5])
def test_any_number_of_rows_is_written_and_found(db: Database, count: int) -> None:
    def work(connection: Connection) -> list[str]:
        PUT.execute(connection, pairs(count))
        PUT.execute(connection, pairs(count))  # there already
        return [row.value for row in FIND.execute(connection, [(key,) for key, _ in pairs(count)])]

    assert db.write(work) == [value for _, value in pairs(count)]


def test_each_row_is_changed_by_itself(db: Database) -> None:
    change = EachRow("UPDATE server_state SET value = ? WHERE key = ?")

    def work(connection: Connection) -> dict[str, str]:
        PUT.execute(connection, pairs(3))
        change.execute(connection, [("new", "0000"), ("newer", "0002")])
        change.execute(connection, [])
        query = select(server_state.c.key, server_state.c.value)
        return {row.key: row.value for row in connection.execute(query)}

    found = db.write(work)
    assert {"0000": "new", "0001": "value 1", "0002": "newer"}.items() <= found.items()


def test_what_is_locked_can_be_read(db: Database) -> None:
    find = ManyRows(FIND.before, FIND.row, FIND.after, locks=True)

    def work(connection: Connection) -> list[str]:
        PUT.execute(connection, pairs(2))
        return [row.value for row in find.execute(connection, [("0001",), ("0000",)])]

    assert db.write(work) == ["value 0", "value 1"]


def test_moments_and_bodies_are_stored_as_the_tables_types_store_them(db: Database) -> None:
    elsewhere = timezone(timedelta(hours=5, minutes=30))
    moments = [NOON, NOON.astimezone(elsewhere), NOON + timedelta(microseconds=1)]
    store = DeliveryStore(db)
    for n, at in enumerate(moments):
        assert store.store_async(f"guid-{n:04d}", "push", bytes([0, n, 255]), at).result()
    with db.read() as connection:
        query = select(deliveries.c.received_at, deliveries.c.due_at, delivery_bodies.c.body)
        query = query.join(delivery_bodies, delivery_bodies.c.seq == deliveries.c.seq)
        rows = connection.execute(query.order_by(deliveries.c.guid)).all()
    assert [row.received_at for row in rows] == [row.due_at for row in rows] == moments
    assert [row.body for row in rows] == [bytes([0, n, 255]) for n in range(3)]


def test_a_moment_comes_back_as_it_was_and_never_without_its_zone(db: Database) -> None:
    def back(connection: Connection) -> datetime:
        return moment_of(stored_moment(connection, NOON + timedelta(microseconds=7)))

    assert db.write(back) == NOON + timedelta(microseconds=7)
    with pytest.raises(ValueError, match="time zone"):
        db.write(lambda connection: stored_moment(connection, NOON.replace(tzinfo=None)))


def test_json_is_read_as_either_driver_gives_it() -> None:
    assert json_of('{"a":1}') == json_of({"a": 1}) == {"a": 1}
    assert json_of("null") is json_of(None) is None


def test_a_commit_full_of_deliveries_keeps_each_once_with_its_body(db: Database) -> None:
    store = DeliveryStore(db)
    count = 2 * MOST + 3

    def arrives(n: int) -> delivery_store._Arrived:
        return delivery_store._Arrived(guid=f"guid-{n:04d}", event="push", body=b"%d" % n, at=NOON)

    arrived = [arrives(n) for n in range(count)]
    twice = [*arrived, arrives(5), arrives(count - 1)]
    first = db.write(lambda connection: delivery_store._store(connection, twice))
    assert first == [True] * count + [False, False]
    assert not any(db.write(lambda connection: delivery_store._store(connection, arrived)))
    claimed = store.claim(count + 1, timedelta(minutes=1), NOON)
    assert {one.guid: one.body for one in claimed} == {one.guid: one.body for one in arrived}


def test_what_has_ended_gets_no_body_again(db: Database) -> None:
    store = DeliveryStore(db)
    assert store.store_async("guid-0001", "push", b"{}", NOON).result()
    (claimed,) = store.claim(1, timedelta(minutes=1), NOON)
    assert store.finish(claimed, DeliveryState.DONE, "done", NOON)
    assert not store.store_async("guid-0001", "push", b"{}", NOON).result()
    with db.read() as connection:
        assert connection.execute(select(delivery_bodies.c.seq)).all() == []
