"""What earlier runs took, as plans tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.builders import NOON, a_draft, a_key, a_spec, an_attempt, an_offer
from webhook_server.runs.commands import Decision
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.stores.database import Database
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.run_store import RunStore

MINUTE = timedelta(minutes=1)


def change(runs: RunStore, run_id: str, at: datetime, change: Callable[[Run], Run]) -> None:
    runs.wake(run_id, at)
    [claim] = runs.claim(limit=1, lease=MINUTE, now=at)
    assert runs.save(claim, Decision(run=change(claim.run)), at)


def a_past_run(db: Database, number: int, waited: timedelta, **more: Any) -> None:
    """Keep a run that waited so long for its machine, and then ran for an hour."""
    runs, run_id = RunStore(db), f"arun{number:08}"
    offer: Offer = more.pop("offer", an_offer())
    ran: timedelta = more.pop("ran", timedelta(hours=1))
    warm: str = more.pop("warm", "")
    draft = a_draft(
        id=run_id, key=a_key(trigger=f"push{number}"), spec=a_spec(name=more.pop("name", "digits"))
    )
    runs.accept(draft, arrived=None, token_id=None, now=NOON)
    change(runs, run_id, NOON, lambda run: replace(run, state=State.QUEUED))
    began = NOON + waited
    attempt = an_attempt(
        offer=offer, names=(f"cynthus-{run_id}-1",), ordered_at=NOON, started_at=began
    )
    # A second stay in the queue, after a loss, is no wait for a first machine.
    change(runs, run_id, began, lambda run: replace(run, state=State.QUEUED, attempts=(attempt,)))
    ended = replace(attempt, ended_at=began + ran, offer=replace(offer, warm=warm))
    given = {"state": State.FINISHED, "outcome": Outcome.SUCCEEDED, "finished_at": began + ran}
    change(runs, run_id, began + ran, lambda run: replace(run, attempts=(ended,), **(given | more)))


def test_waits_are_of_the_same_machine_from_the_queue_to_the_first_sign(db: Database) -> None:
    a_past_run(db, 1, 2 * MINUTE)
    a_past_run(db, 2, 5 * MINUTE, name="other")  # whichever spec it was
    a_past_run(db, 3, 9 * MINUTE, offer=an_offer(machine="large"))
    a_past_run(db, 4, 9 * MINUTE, offer=an_offer(provider="else"))
    a_past_run(db, 5, MINUTE / 60, warm="cynthus-arun00000001-1")  # it had no boot to wait for
    found = HistoryStore(db).waits("fake", "small")
    assert sorted(found) == [2 * MINUTE, 5 * MINUTE]


def test_the_newest_twenty_count(db: Database) -> None:
    for number in range(1, 24):
        a_past_run(db, number, number * MINUTE)
    assert sorted(HistoryStore(db).waits("fake", "small")) == [n * MINUTE for n in range(4, 24)]


def test_durations_are_of_the_names_successes_in_this_repository(db: Database) -> None:
    a_past_run(db, 1, MINUTE, ran=10 * MINUTE)
    a_past_run(db, 2, MINUTE, ran=20 * MINUTE)
    a_past_run(db, 3, MINUTE, ran=99 * MINUTE, name="other")
    a_past_run(db, 4, MINUTE, ran=99 * MINUTE, outcome=Outcome.FAILED)
    history = HistoryStore(db)
    assert history.durations(7, "digits") == (20 * MINUTE, 10 * MINUTE)
    assert history.durations(8, "digits") == ()
