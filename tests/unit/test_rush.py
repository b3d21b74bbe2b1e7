"""The inbox lets a burst at the door go first, and never waits for it for ever."""

from __future__ import annotations

import threading

from webhook_server.inbox.inbox import head_start_s
from webhook_server.rush import QUIET_S, Rush

PATIENCE_S = 60.0


def test_nobody_at_the_door_is_nothing_to_wait_for() -> None:
    assert not Rush().wait_out(PATIENCE_S)


def test_a_wait_ends_with_the_last_visit() -> None:
    rush, over = Rush(), threading.Event()
    for _ in range(2):
        rush.__enter__()

    def wait() -> None:
        rush.wait_out(1e6)
        over.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    rush.__exit__(None, None, None)
    assert not over.is_set()  # one is left: nothing can have ended the wait
    rush.__exit__(None, None, None)
    assert over.wait(PATIENCE_S)


def test_a_door_that_is_always_busy_is_not_waited_for_beyond_the_limit() -> None:
    rush = Rush()
    with rush:
        rush.wait_out(0.01)


def test_a_visit_that_fails_is_over() -> None:
    rush = Rush()
    try:
        with rush:
            raise LookupError
    except LookupError:
        rush.wait_out(1e6)


def test_who_left_a_moment_ago_may_come_again() -> None:
    times = iter([*[100.0] * 4, *[101.0] * 10])  # its leave and three looks, then the limit
    rush = Rush(clock_s=lambda: next(times))
    with rush:
        pass
    assert rush.wait_out(QUIET_S / 10)


def test_who_left_longer_ago_is_not_waited_for() -> None:
    times = iter([100.0, *[100.0 + QUIET_S] * 10])
    rush = Rush(clock_s=lambda: next(times))
    with rush:
        pass
    assert not rush.wait_out(1e6)


def test_what_is_two_seconds_late_waits_for_no_burst() -> None:
    assert head_start_s(late_s=0) == 2
    assert head_start_s(late_s=1.5) == 0.5
    assert head_start_s(late_s=2) == head_start_s(late_s=1e6) == 0
