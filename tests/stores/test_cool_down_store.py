"""Which places are left alone, for how long, by every replica."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.builders import NOON, seconds
from tests.stores.test_database import run_together
from webhook_server.runs.lending import CoolDown, Denial
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import Database

LONGEST = timedelta(minutes=10)
ENTRY = CoolDown(
    provider="gcp",
    place="us-central1-a",
    machine="g2-standard-4",
    spot=True,
    until=NOON + seconds(30),
    denial=Denial.NO_CAPACITY,
    text="no L4",
)


def refuse(store: CoolDownStore, at: float, entry: CoolDown = ENTRY) -> None:
    now = NOON + seconds(at)
    store.record(replace(entry, until=now + seconds(30)), now, LONGEST)


def test_a_refusal_cools_its_place_down_for_that_machine(db: Database) -> None:
    store = CoolDownStore(db)
    refuse(store, 0)
    assert store.current("gcp", NOON) == (ENTRY,)
    assert store.current("gcp", NOON + seconds(30)) == ()
    assert store.current("other", NOON) == ()


def test_refusals_in_a_row_double_the_wait_up_to_the_longest(db: Database) -> None:
    store = CoolDownStore(db)
    waits, at = [], 0.0
    for _ in range(7):
        refuse(store, at)
        [entry] = store.current("gcp", NOON + seconds(at))
        waits.append((entry.until - NOON).total_seconds() - at)
        at += waits[-1]
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    refuse(store, at + LONGEST.total_seconds())  # long since: it begins anew
    [entry] = store.current("gcp", NOON + seconds(at) + LONGEST)
    assert entry.until == NOON + seconds(at) + LONGEST + seconds(30)


def test_many_runs_that_are_refused_at_once_count_as_one_refusal(db: Database) -> None:
    store = CoolDownStore(db)
    run_together([lambda: refuse(store, 0)] * 9)
    assert store.current("gcp", NOON) == (ENTRY,)


def test_what_cooled_down_long_ago_is_dropped(db: Database) -> None:
    store = CoolDownStore(db)
    refuse(store, 0)
    refuse(store, 90, replace(ENTRY, place="us-central1-b"))
    assert store.prune(NOON + seconds(60)) == 1
    assert [e.place for e in store.current("gcp", NOON + seconds(91))] == ["us-central1-b"]
