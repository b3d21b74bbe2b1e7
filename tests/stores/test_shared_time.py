"""A machine whose clock is an hour wrong lives by PostgreSQL's, and so does its whole server."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from webhook_server import ground
from webhook_server.bell import Bell
from webhook_server.stores.database import Database
from webhook_server.stores.shared_clock import SharedClock

WRONG = timedelta(hours=1)
#: A machine under load may take long between two readings, and never an hour.
NEAR = timedelta(minutes=10)


@pytest.mark.case("P11")
@pytest.mark.postgres
def test_a_wrong_clock_is_set_by_the_database_s(postgres_url: str) -> None:
    database = Database(postgres_url, now=lambda: ground.clock() + WRONG)
    try:
        clock = SharedClock(database.now, time.monotonic)
        assert clock() - ground.clock() > NEAR
        assert clock.look(database) is (abs(clock() - ground.clock()) < NEAR)
        with ground._shared_time(database, Bell()):
            assert abs(database.now() - ground.clock()) < NEAR
    finally:
        database.close()
