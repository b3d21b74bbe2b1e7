"""One writer for all threads: what is put together, who goes first, who is harmed by nobody."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, func, insert, select

from webhook_server.stores.database import Database
from webhook_server.stores.tables import used_tokens
from webhook_server.stores.writer import BATCH, BESIDE_DOORS, Joint

PATIENCE_S = 60.0
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def put_rows(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Insert every key; refuse the whole batch when one is bad."""
    if "bad" in keys:
        raise LookupError("bad")
    connection.execute(insert(used_tokens), [{"jti": key, "expires_at": NOON} for key in keys])
    return [f"{key} of {len(keys)}" for key in keys]


@pytest.fixture
def held(db: Database) -> Iterator[Callable[[], None]]:
    """Hold the writer until the returned function is called: what is queued becomes one batch."""
    begun, gate = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        begun.set()
        assert gate.wait(PATIENCE_S)

    db.write_async(wait)
    assert begun.wait(PATIENCE_S)
    yield gate.set
    gate.set()


def stored(db: Database) -> int:
    with db.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(used_tokens)).scalar_one()
    return found


def test_rows_of_one_work_are_carried_out_together(db: Database, held: Callable[[], None]) -> None:
    joint = Joint(put_rows, at_door=True)
    answers = [db.write_row_async(joint, key) for key in "abc"]
    held()
    assert [answer.result(PATIENCE_S) for answer in answers] == ["a of 3", "b of 3", "c of 3"]
    assert stored(db) == 3


def test_rows_that_only_wait_for_company_are_stored_without_any(db: Database) -> None:
    joint = Joint(put_rows, at_door=True, patience_s=0.001)
    assert db.write_row_async(joint, "alone").result(PATIENCE_S) == "alone of 1"


def test_patience_is_never_waited_for_by_others(db: Database) -> None:
    joint = Joint(put_rows, at_door=True, patience_s=1e6)  # the test would never end
    patient = db.write_row_async(joint, "patient")
    db.write(lambda _: None)
    assert patient.result(PATIENCE_S) == "patient of 1"


def test_who_has_less_patience_is_not_kept_waiting_by_who_has_more(db: Database) -> None:
    calm = Joint(put_rows, at_door=True, patience_s=1e6)  # the test would never end
    first = [db.write_row_async(calm, key) for key in "abc"]
    hasty = db.write_row_async(Joint(put_rows, at_door=True, patience_s=0.001), "hasty")
    assert hasty.result(PATIENCE_S) == "hasty of 1"
    assert [answer.result(PATIENCE_S) for answer in first] == ["a of 3", "b of 3", "c of 3"]


def test_a_full_batch_is_not_kept_waiting(db: Database) -> None:
    calm = Joint(put_rows, at_door=True, patience_s=1e6)  # as above
    answers = [db.write_row_async(calm, str(number)) for number in range(BATCH)]
    assert [a.result(PATIENCE_S) for a in answers] == [f"{n} of {BATCH}" for n in range(BATCH)]


def test_what_is_patient_is_stored_when_the_server_stops(db: Database) -> None:
    patient = db.write_row_async(Joint(put_rows, at_door=True, patience_s=1e6), "patient")
    db.close()
    assert patient.result(0) == "patient of 1"


def test_a_bad_row_harms_no_other_of_its_work(db: Database, held: Callable[[], None]) -> None:
    joint = Joint(put_rows, at_door=True)
    answers = {key: db.write_row_async(joint, key) for key in ("a", "b", "bad", "c", "d")}
    held()
    with pytest.raises(LookupError):
        answers.pop("bad").result(PATIENCE_S)
    assert {key: a.result(PATIENCE_S).split()[0] for key, a in answers.items()} == {
        key: key for key in "abcd"
    }
    assert stored(db) == 4


def test_doors_go_first_and_loops_go_along(db: Database, held: Callable[[], None]) -> None:
    order: list[str] = []

    def note(word: str) -> Callable[[Connection], None]:
        return lambda _: order.append(word)

    def noted(_: Connection, words: Sequence[str]) -> list[None]:
        return [order.append(word) for word in words]

    loops = [db.write_async(note(f"loop {n}")) for n in range(2 * BESIDE_DOORS)]
    door = db.write_row_async(Joint(noted, at_door=True), "door")
    held()
    door.result(PATIENCE_S)
    for loop in loops:
        loop.result(PATIENCE_S)
    assert order == ["door", *(f"loop {n}" for n in range(2 * BESIDE_DOORS))]


def test_loops_go_on_beside_a_door_that_is_always_busy(
    db: Database, held: Callable[[], None]
) -> None:
    joint = Joint(put_rows, at_door=True)
    keys, over = itertools.count(), threading.Event()
    stopped = threading.Event()

    def visit(_: Future[str] | None = None) -> None:
        if over.is_set():
            stopped.set()
        else:  # there is always another one: before this one's commit is over
            db.write_row_async(joint, f"visit {next(keys)}").add_done_callback(visit)

    loops = [db.write_async(lambda _: None) for _ in range(3 * BATCH)]
    visit()
    held()
    for loop in loops:
        loop.result(PATIENCE_S)
    over.set()
    assert stopped.wait(PATIENCE_S)
    assert next(keys) >= len(loops) / BESIDE_DOORS - 1  # each commit took a visit and some loops
