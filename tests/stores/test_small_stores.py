"""Deliveries, handled intents, publications and repositories in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select

from tests.builders import NOON, a_draft, a_key, seconds
from tests.stores.test_database import run_together
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryState, DeliveryStore
from webhook_server.stores.publication_store import PublicationKind, PublicationStore
from webhook_server.stores.repository_store import Repository, RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import delivery_bodies

LEASE = timedelta(minutes=1)


def kept_bodies(db: Database) -> list[bytes]:
    with db.read() as connection:
        return list(connection.execute(select(delivery_bodies.c.body)).scalars())


def test_a_delivery_is_stored_once_however_often_it_comes(db: Database) -> None:
    store = DeliveryStore(db)
    answers: list[bool] = []
    run_together([lambda: answers.append(store.store_async("g", "push", b"{}", NOON).result())] * 9)
    assert sorted(answers) == [False] * 8 + [True]
    [delivery] = store.claim(10, LEASE, NOON)
    assert (delivery.guid, delivery.event, delivery.body, delivery.tries) == ("g", "push", b"{}", 1)
    assert store.claim(10, LEASE, NOON) == []
    assert store.known(["g", "h"]) == {"g"}
    assert store.last_guid_times(5) == [("g", NOON)]


def test_a_handled_delivery_is_emptied_and_never_given_again(db: Database) -> None:
    store = DeliveryStore(db)
    store.store_async("g", "push", b"{}", NOON).result()
    [delivery] = store.claim(10, LEASE, NOON)
    assert store.finish(delivery, DeliveryState.DONE, "run x", NOON)
    assert not store.finish(delivery, DeliveryState.PARKED, "again", NOON)
    assert store.next_due() is None
    assert kept_bodies(db) == []
    assert not store.store_async("g", "push", b"{}", NOON).result()
    assert store.claim(10, LEASE, NOON + LEASE) == []


def test_what_is_parked_keeps_its_body_for_a_person_to_look_at(db: Database) -> None:
    store = DeliveryStore(db)
    for guid in ("done", "parked"):
        store.store_async(guid, "push", guid.encode(), NOON).result()
    done, parked = store.claim(10, LEASE, NOON)
    assert store.finish(done, DeliveryState.IGNORED, "no run", NOON)
    assert store.finish(parked, DeliveryState.PARKED, "a fault", NOON)
    assert kept_bodies(db) == [b"parked"]


def test_a_delivery_that_failed_is_due_again_with_its_bytes(db: Database) -> None:
    store = DeliveryStore(db)
    store.store_async("g", "push", b"\x00\xff", NOON).result()
    [first] = store.claim(10, LEASE, NOON)
    assert store.retry(first, NOON + seconds(30), "GitHub does not answer")
    assert store.next_due() == NOON + seconds(30)
    assert store.claim(10, LEASE, NOON) == []
    [second] = store.claim(10, LEASE, NOON + seconds(30))
    assert (second.body, second.tries) == (b"\x00\xff", 2)
    assert not store.retry(first, NOON, "too late")


def test_deliveries_are_handled_in_the_order_of_their_arrival(db: Database) -> None:
    store = DeliveryStore(db)
    for n in range(5):
        store.store_async(f"g{n}", "push", b"", NOON + seconds(n)).result()
    assert [d.guid for d in store.claim(3, LEASE, NOON + LEASE)] == ["g0", "g1", "g2"]


def test_an_intent_is_handled_once(db: Database) -> None:
    store = DeliveryStore(db)
    assert not store.was_handled("comment/5")
    answers: list[bool] = []

    def handle() -> None:
        answers.append(
            store.handle_once("comment/5", {"by": "ann"}, allowed=True, run_id="r", now=NOON)
        )

    run_together([handle] * 5)
    assert sorted(answers) == [False] * 4 + [True]
    assert store.was_handled("comment/5")


def test_a_publication_keeps_what_was_sent(db: Database) -> None:
    RunStore(db).accept(a_draft(), arrived=None, token_id=None, now=NOON)
    store = PublicationStore(db)
    [check] = store.claim(5, LEASE, NOON)
    assert store.claim(5, LEASE, NOON) == []
    sent = replace(
        check,
        external_id=5,
        sent_digest="d",
        sent_at=NOON,
        sent={"annotations": 3},
        due_at=NOON + seconds(30),
        failures=1,
        note="slow",
    )
    assert store.save(sent, NOON)
    found = store.get(check.subject, PublicationKind.CHECK_RUN)
    assert found == replace(sent, token=None)
    assert store.next_due() == NOON + seconds(30)
    assert store.get(check.subject, PublicationKind.RELEASE) is None


def test_a_repository_keeps_its_installation_until_it_is_removed(db: Database) -> None:
    store = RepositoryStore(db)
    acme = Repository(
        id=7, owner_id=1, full_name="acme/vision", default_branch="main", installation_id=9
    )
    store.upsert(acme, NOON)
    store.upsert(replace(acme, full_name="acme/sight", installation_id=None), NOON)
    assert store.get(7) == replace(acme, full_name="acme/sight")
    assert store.by_installation(9) == [replace(acme, full_name="acme/sight")]
    store.forget_installation(9)
    found = store.get(7)
    assert found is not None
    assert found.installation_id == 0
    assert store.get(8) is None


def test_runs_of_other_repositories_stay_apart(db: Database) -> None:
    runs = RunStore(db)
    runs.accept(a_draft(id="mine", key=a_key()), arrived=None, token_id=None, now=NOON)
    theirs = a_draft(id="theirs", key=a_key(repository_id=8))
    assert runs.accept(theirs, arrived=None, token_id=None, now=NOON).created
    assert [row.id for row in runs.list(repository_id=8, limit=9, before=None)] == ["theirs"]
