"""Which loops have stopped: by when they should move again, and not by how long they may sleep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.prometheus_text import parsed
from webhook_server.bell import Bell
from webhook_server.loops import STOPPED_AFTER, Running, gauges
from webhook_server.metrics import spell
from webhook_server.workers import LONGEST_WAIT_S, Loop

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock:
    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime:
        return self.at


def running(clock: Clock, *loops: Loop) -> Running:
    return Running(loops, {}, Bell(), clock.now, drain=lambda _: True)


def test_a_loop_that_sleeps_as_long_as_it_may_has_not_stopped() -> None:
    clock, loop = Clock(), Loop("prune", lambda: 3600.0, "prune")
    found = running(clock, loop)
    found._watched(loop)()
    clock.at += timedelta(seconds=LONGEST_WAIT_S)
    assert found.stopped() == ()
    clock.at += STOPPED_AFTER + SECOND
    assert found.stopped() == ("prune",)


def test_a_step_that_never_ends_is_told_once_it_takes_too_long() -> None:
    clock, loop = Clock(), Loop("reconcile", lambda: 0.0, "runs")
    found = running(clock, loop)
    found._watched(loop)
    clock.at += STOPPED_AFTER
    assert found.stopped() == ()
    clock.at += SECOND
    assert found.stopped() == ("reconcile",)
    families = parsed(spell(gauges(found, None)))
    (overdue,) = families["cynthus_loop_overdue_seconds"].samples.values()
    assert overdue == STOPPED_AFTER.total_seconds() + 1
