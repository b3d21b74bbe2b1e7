"""kill -9 before and after every call of a run: it succeeds all the same, and nothing leaks."""

from __future__ import annotations

from tests.simulation.every_call import failures
from tests.simulation.fates import Fate


def test_a_server_that_is_killed_at_any_call_loses_nothing() -> None:
    assert failures(frozenset({Fate.CRASH_BEFORE, Fate.CRASH_AFTER})) == []
