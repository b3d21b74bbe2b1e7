"""The App that set-up made: kept whole, its keys apart, each way to GitHub good once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.builders import APP_KEYS as KEYS
from tests.builders import NOON
from tests.builders import STORED_APP as APP
from tests.canaries import hits
from tests.stores.test_database import run_together
from webhook_server.stores.app_store import ASK_LIFE, AppAsk, AppStore
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.durability import durability
from webhook_server.stores.file_secrets import FileSecrets

ASK = AppAsk(allowed=("acme", "12"))


@pytest.fixture
def secrets(tmp_path: Path) -> FileSecrets:
    return FileSecrets(tmp_path / "secrets", b"k" * 32)


@pytest.fixture
def store(db: Database, secrets: FileSecrets) -> AppStore:
    return AppStore(db, secrets)


def test_an_app_comes_back_as_it_was_kept(store: AppStore) -> None:
    assert store.get() is None
    store.put(APP, KEYS)
    assert store.get() == APP
    assert store.keys(APP) == KEYS
    assert store.keys(replace(APP, id="8")) is None


def test_no_key_is_in_the_database_or_among_a_repositorys_secrets(
    store: AppStore, db: Database, secrets: FileSecrets
) -> None:
    store.put(APP, KEYS)
    kept = db.state("app") or ""
    values = [KEYS.private_key, KEYS.webhook_secret, KEYS.client_secret]
    assert hits(values, [("server_state", kept.encode())]) == []
    assert secrets.names(0) == secrets.names(7) == []


def test_a_forgotten_app_leaves_no_key(store: AppStore) -> None:
    store.put(APP, KEYS)
    assert store.forget() == APP
    assert store.get() is None
    assert store.keys(APP) is None
    assert store.forget() is None


def test_a_way_to_github_is_good_once_for_an_hour_and_for_the_last_who_left(
    store: AppStore,
) -> None:
    store.begin("first", ASK, NOON)
    assert store.end("forged", NOON) is None
    answers: list[AppAsk | None] = []
    run_together([lambda: answers.append(store.end("first", NOON))] * 5)
    assert [answer for answer in answers if answer] == [ASK]
    store.begin("late", ASK, NOON)
    assert store.end("late", NOON + ASK_LIFE) is None
    store.begin("one", ASK, NOON)
    store.begin("two", ASK, NOON)
    assert store.end("one", NOON) is None
    assert store.end("two", NOON + ASK_LIFE - timedelta(seconds=1)) == ASK


def test_a_delivery_that_is_not_kept_is_seen(db: Database) -> None:
    deliveries = DeliveryStore(db)
    assert not deliveries.arrived_since(NOON)
    deliveries.see_async(NOON).result()
    assert deliveries.arrived_since(NOON)
    assert not deliveries.arrived_since(NOON + timedelta(seconds=1))
    deliveries.store_async("g", "push", b"{}", NOON + timedelta(seconds=1)).result()
    assert deliveries.arrived_since(NOON + timedelta(seconds=1))


def test_the_database_says_what_its_word_is_worth(db: Database) -> None:
    found = durability(db)
    assert found.version == "0001"
    assert found.engine in {"SQLite", "PostgreSQL"}
    # The tests' PostgreSQL gives its promise up for speed, and has to admit it.
    assert found.durable == (found.how in {"synchronous=full", "fsync=on, synchronous_commit=on"})
