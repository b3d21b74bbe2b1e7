"""What waits in the database, measured by indexes alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.builders import a_draft, a_key
from webhook_server.runs.model import State
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryState, DeliveryStore
from webhook_server.stores.queues import measured
from webhook_server.stores.run_store import RunStore

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def told(db: Database, now: datetime) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (name, tuple(labels.values())): value for name, labels, value in measured(db, ["gcp"], now)
    }


def test_an_empty_database_has_nothing_waiting(db: Database) -> None:
    found = told(db, NOON)
    assert set(found.values()) == {0}
    assert ("cynthus_instances", ("gcp", "silent")) in found
    unfinished = {(state.value,) for state in State if state is not State.FINISHED}
    assert {labels for name, labels in found if name == "cynthus_runs"} == unfinished


def test_what_is_due_is_counted_with_the_age_of_the_oldest(db: Database) -> None:
    runs, deliveries = RunStore(db), DeliveryStore(db)
    for number in range(2):
        key = a_key(commit_sha=f"{number}" * 40)
        draft = a_draft(id=f"arun0000000{number}", key=key)
        runs.accept(draft, arrived=None, token_id=None, now=NOON)
    deliveries.store_async("guid-0001", "push", b"{}", NOON + timedelta(seconds=5)).result()
    found = told(db, NOON + timedelta(seconds=20))
    assert found["cynthus_runs", ("building",)] == 2
    assert found["cynthus_runs_due", ()] == 2
    assert found["cynthus_runs_oldest_due_seconds", ()] == 20
    assert found["cynthus_deliveries_due", ()] == 1
    assert found["cynthus_deliveries_oldest_seconds", ()] == 15
    assert found["cynthus_publications_due", ()] == 2


def test_a_delivery_that_is_put_off_grows_older_and_a_parked_one_waits_for_a_person(
    db: Database,
) -> None:
    store = DeliveryStore(db)
    for guid in ("guid-0001", "guid-0002"):
        store.store_async(guid, "push", b"{}", NOON).result()
    first, second = store.claim(2, timedelta(minutes=1), NOON)
    store.retry(first, NOON + timedelta(hours=1), "later")
    store.finish(second, DeliveryState.PARKED, "a person must look", NOON)
    found = told(db, NOON + timedelta(minutes=30))
    assert found["cynthus_deliveries_oldest_seconds", ()] == 1800
    assert found["cynthus_deliveries_parked", ()] == 1


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("runs", "look_again_at IS NOT NULL"),
        ("runs", "look_again_at <= '2026'"),
        ("deliveries", "state = 'parked'"),
        ("deliveries", "due_at IS NOT NULL"),
        ("publications", "due_at <= '2026'"),
        ("publications", "state = 'refused'"),
        ("instances", "provider = 'gcp' AND closed_at IS NULL"),
    ],
)
def test_sqlite_reads_no_whole_table_for_it(tmp_path: Path, table: str, where: str) -> None:
    # PostgreSQL's planner reads a table of no rows whole, whatever the indexes.
    db = Database(f"sqlite:///{tmp_path}/cynthus.db", now=lambda: NOON)
    try:
        db.migrate()
        with db.read() as connection:
            query = f"EXPLAIN QUERY PLAN SELECT count(*) FROM {table} WHERE {where}"
            steps = [row.detail for row in connection.execute(text(query))]
    finally:
        db.close()
    assert all("USING" in step and "INDEX" in step for step in steps), steps
