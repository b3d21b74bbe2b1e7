"""One builds an environment, the others wait; whoever dies is waited for two minutes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from cynthus.wire_image import BuildLeaseAsk, BuildLeaseView
from tests.builders import NOON
from tests.stores.test_database import run_together
from webhook_server.stores.build_lease_store import LEASE, BuildLeaseStore
from webhook_server.stores.database import Database
from webhook_server.stores.tables import build_leases

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
ONE, OTHER = (
    "https://github.test/acme/a/actions/runs/1",
    "https://github.test/acme/b/actions/runs/2",
)
OWNER = 41
AGES_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def an_ask(holder: str = ONE, key: str = KEY) -> BuildLeaseAsk:
    return BuildLeaseAsk(key=key, holder=holder)


def expire(db: Database) -> None:
    """Let every lease end long ago: the database's own clock cannot be set."""
    ended = update(build_leases).values(until=AGES_AGO)
    db.write(lambda connection: connection.execute(ended).rowcount)


@pytest.fixture
def store(db: Database) -> BuildLeaseStore:
    return BuildLeaseStore(db)


def test_the_first_builds_and_the_others_are_told_for_whom_they_wait(
    store: BuildLeaseStore,
) -> None:
    first = store.ask(OWNER, an_ask(), NOON)
    assert (first.granted, first.holder) == (True, ONE)
    second = store.ask(OWNER, an_ask(OTHER), NOON)
    assert second == BuildLeaseView(granted=False, holder=ONE, until=first.until)
    assert store.ask(OWNER, an_ask(OTHER, "1" * 32), NOON).granted
    assert store.ask(OWNER + 1, an_ask(OTHER), NOON).granted  # nobody waits for a stranger


def test_the_holder_may_ask_again_and_has_it_longer(db: Database, store: BuildLeaseStore) -> None:
    store.ask(OWNER, an_ask(), NOON)
    expire(db)
    again = store.ask(OWNER, an_ask(), NOON)
    assert again.granted
    assert again.until > AGES_AGO + LEASE


def test_a_holder_that_died_is_waited_for_no_longer(db: Database, store: BuildLeaseStore) -> None:
    store.ask(OWNER, an_ask(), NOON)
    expire(db)
    taken = store.ask(OWNER, an_ask(OTHER), NOON)
    assert (taken.granted, taken.holder) == (True, OTHER)
    late = store.ask(OWNER, an_ask(), NOON)  # it was only slow: now it waits
    assert (late.granted, late.holder) == (False, OTHER)


def test_only_the_holder_gives_back(store: BuildLeaseStore) -> None:
    held = store.ask(OWNER, an_ask(), NOON)
    refused = store.give_back(OWNER, an_ask(OTHER), NOON)
    assert refused == BuildLeaseView(granted=False, holder=ONE, until=held.until)
    assert not store.ask(OWNER, an_ask(OTHER), NOON).granted
    for _ in range(2):  # safe to repeat
        assert not store.give_back(OWNER, an_ask(), NOON).granted
    assert store.ask(OWNER, an_ask(OTHER), NOON).granted


def test_of_many_that_ask_at_once_one_builds(store: BuildLeaseStore) -> None:
    answers: list[BuildLeaseView] = []

    def asking(number: int) -> Callable[[], None]:
        return lambda: answers.append(store.ask(OWNER, an_ask(f"{ONE}#{number}"), NOON))

    run_together([asking(number) for number in range(9)])
    granted = [answer.holder for answer in answers if answer.granted]
    assert len(granted) == 1
    assert {answer.holder for answer in answers} == set(granted)


def test_leases_that_ended_long_ago_are_dropped(db: Database, store: BuildLeaseStore) -> None:
    store.ask(OWNER, an_ask(), NOON)
    expire(db)
    store.ask(OWNER, an_ask(OTHER, "1" * 32), NOON)
    assert store.prune(AGES_AGO + LEASE) == 1
    assert store.prune(AGES_AGO + LEASE) == 0


@pytest.mark.postgres
def test_replicas_share_the_leases_by_the_databases_clock(
    postgres_url: str, open_database: Callable[[str], Database]
) -> None:
    first, second = open_database(postgres_url), open_database(postgres_url)
    first.migrate()
    stores = [BuildLeaseStore(first), BuildLeaseStore(second)]
    answers: list[BuildLeaseView] = []

    def asking(number: int) -> Callable[[], None]:
        # The second replica's clock is an hour fast: it must take nothing from anybody.
        now = datetime.now(UTC) + timedelta(hours=number % 2)
        ask = an_ask(f"{ONE}#{number}")
        return lambda: answers.append(stores[number % 2].ask(OWNER, ask, now))

    run_together([asking(number) for number in range(8)])
    assert sum(answer.granted for answer in answers) == 1
