"""Published releases, as the retention and the webhook look for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import NOON, OUTPUT, a_draft, a_key, an_attempt
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Outcome, State
from webhook_server.runs.observations import ReleaseState
from webhook_server.runs.retention import Released
from webhook_server.stores.database import Database
from webhook_server.stores.publication_store import (
    PublicationKind,
    PublicationState,
    PublicationStore,
)
from webhook_server.stores.run_store import RunStore

LEASE = timedelta(minutes=1)


@pytest.fixture
def store(db: Database) -> PublicationStore:
    runs, store = RunStore(db), PublicationStore(db)
    for number in (1, 2, 3):
        released(runs, number)
    for item in store.claim(20, LEASE, NOON):
        if item.kind is not PublicationKind.RELEASE:
            continue
        number = int(item.subject[-1])
        done = replace(
            item,
            state=PublicationState.DONE if number < 3 else PublicationState.PENDING,
            external_id=100 + number,
            url="https://github.test/r",
            sent={"tag": f"cynthus/digits/{number}", "kept": False},
            due_at=None,
        )
        assert store.save(done, NOON)
    return store


def released(runs: RunStore, number: int) -> None:
    """Keep a run that wants its release."""
    draft = a_draft(id=f"arun{number:08}", key=a_key(trigger=f"push{number}"))
    runs.accept(draft, arrived=None, token_id=None, now=NOON)
    [claim] = runs.claim(limit=1, lease=LEASE, now=NOON)
    run = replace(
        claim.run,
        state=State.RELEASING,
        outcome=Outcome.SUCCEEDED,
        outputs=(OUTPUT,),
        attempts=(an_attempt(names=(f"cynthus-{number}",)),),
    )
    assert runs.save(claim, Decision(run=run), NOON)


def test_published_releases_of_a_name_are_found_newest_first(store: PublicationStore) -> None:
    assert store.released(7, "digits") == [
        Released(
            run_id=f"arun{number:08}",
            number=number,
            release_id=100 + number,
            tag=f"cynthus/digits/{number}",
            at=NOON,
        )
        for number in (2, 1)
    ]
    assert store.released(7, "letters") == store.released(8, "digits") == []


def test_a_release_is_found_by_its_number_within_its_repository(store: PublicationStore) -> None:
    assert store.release_of(7, 101) == "arun00000001"
    assert store.release_of(8, 101) is None
    assert store.release_of(7, 103) is None, "it is not published yet"


def test_what_is_withdrawn_is_told_to_its_run_once(db: Database, store: PublicationStore) -> None:
    runs = RunStore(db)
    for _ in range(2):
        store.withdraw("arun00000001", "it was deleted", NOON)
    seen = store.release_seen("arun00000001")
    assert seen is not None
    assert (seen.state, seen.url, seen.text) == (ReleaseState.REFUSED, None, "it was deleted")
    assert store.release_of(7, 101) is None
    assert [one.number for one in store.released(7, "digits")] == [2]
    assert runs.next_due(NOON) == NOON
    # What is not published cannot be withdrawn.
    store.withdraw("arun00000003", "it was deleted", NOON)
    assert store.release_of(7, 103) is None
    pending = store.get("arun00000003", PublicationKind.RELEASE)
    assert pending is not None
    assert pending.state is PublicationState.PENDING


def test_one_that_must_stay_is_marked(store: PublicationStore) -> None:
    store.keep_release("arun00000001")
    store.keep_release("nobody")
    assert [(one.number, one.kept) for one in store.released(7, "digits")] == [
        (2, False),
        (1, True),
    ]


def test_older_releases_are_looked_at_once_after_each_new_one(store: PublicationStore) -> None:
    item = store.get("arun00000001", PublicationKind.RELEASE)
    assert item is not None
    for _ in range(2):
        store.make_retention_due(item, NOON)
    due = [one for one in store.claim(20, LEASE, NOON) if one.kind is PublicationKind.RETENTION]
    assert [one.subject for one in due] == ["arun00000001"]


def test_live_runs_are_those_that_have_not_ended(db: Database, store: PublicationStore) -> None:
    assert store.get("arun00000001", PublicationKind.RELEASE) is not None
    live = [run.id for run in RunStore(db).live(7)]
    assert live == ["arun00000003", "arun00000002", "arun00000001"]
    assert RunStore(db).live(8) == []
