"""A session ends by itself, by signing out, and with the token that opened it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from webhook_server.stores.database import Database
from webhook_server.stores.session_store import LIFE, SessionStore
from webhook_server.stores.tables import server_state

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKEN = "operator-token-0123456789abcdef"


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'a.db'}", now=clock)
    opened.migrate()
    yield opened
    opened.close()


@pytest.mark.case("D6")
def test_a_session_lives_a_day_of_work_and_no_longer(database: Database, clock: Clock) -> None:
    store = SessionStore(database, now=clock)
    session = store.open(TOKEN)
    clock.now = NOON + LIFE - timedelta(seconds=1)
    assert store.good(session, TOKEN)
    clock.now = NOON + LIFE
    assert not store.good(session, TOKEN)


@pytest.mark.case("D6")
def test_what_ends_a_session_ends_no_other(database: Database, clock: Clock) -> None:
    store = SessionStore(database, now=clock)
    one, two = store.open(TOKEN), store.open(TOKEN)
    assert one != two
    store.close(one)
    assert [store.good(session, TOKEN) for session in (one, two)] == [False, True]
    assert not store.good(two, TOKEN + "x"), "a new token ends what the old one opened"
    assert not store.good("", TOKEN)
    assert not store.good(two[:-1], TOKEN)


@pytest.mark.case("D6", "A8")
def test_who_reads_the_database_cannot_be_signed_in(database: Database, clock: Clock) -> None:
    session = SessionStore(database, now=clock).open(TOKEN)
    with database.read() as connection:
        kept = "".join(f"{key} {value}" for key, value in connection.execute(select(server_state)))
    assert session not in kept
    assert TOKEN not in kept
