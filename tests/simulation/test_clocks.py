"""Replicas whose clocks are wrong by minutes live by one time: the database's."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.simulation.fates import Fates
from tests.simulation.record import Record
from tests.simulation.scheduler import EPOCH, Program, Scheduler
from tests.simulation.store import Store
from webhook_server.stores.shared_clock import AGAIN_S, EVERY_S, LONGEST_LOOK_S, SharedClock


def looked(wrong: timedelta, slow_s: float = 0.0) -> tuple[datetime, datetime, float]:
    """Let a clock look at the database: what it shows, the true time, when it looks again."""
    scheduler, store = Scheduler(0), Store()
    store.begin(scheduler, Fates(scheduler, Record(), by_chance=False))
    clock = SharedClock(lambda: scheduler.moment() + wrong, lambda: scheduler.now)
    database = store.open(clock)
    found: list[tuple[datetime, datetime, float]] = []

    def look() -> None:
        if slow_s:
            program.asleep_until = scheduler.now + slow_s
        again_s = clock.step(database)
        scheduler.sleep(30)
        found.append((clock(), scheduler.moment(), again_s))

    program = Program("replica")
    scheduler.spawn(program, look)
    scheduler.run(1000)
    [one] = found
    return one


@pytest.mark.case("P11")
@pytest.mark.parametrize("wrong_s", [-300, 0, 300])
def test_a_clock_that_looked_shows_the_database_s_time(wrong_s: float) -> None:
    shown, true, again_s = looked(timedelta(seconds=wrong_s))
    assert abs(shown - true) < timedelta(seconds=0.1)
    assert again_s == EVERY_S


def test_a_look_that_took_too_long_counts_for_nothing_and_is_repeated() -> None:
    shown, true, again_s = looked(timedelta(seconds=300), slow_s=LONGEST_LOOK_S + 1)
    assert shown - true == timedelta(seconds=300)
    assert again_s == AGAIN_S


def test_before_its_first_look_it_shows_its_own_machine_s_time() -> None:
    elapsed = [5.0]
    clock = SharedClock(lambda: EPOCH, lambda: elapsed[0])
    elapsed[0] += 7
    assert clock() == EPOCH + timedelta(seconds=7)
