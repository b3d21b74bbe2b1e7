"""Every call of a run refused, lost on its way, lost on the way back, or late: it succeeds."""

from __future__ import annotations

from tests.simulation.every_call import calls, failures
from tests.simulation.fates import Fate


def test_a_call_of_any_kind_may_be_refused_lost_or_late() -> None:
    fates = {Fate.REFUSED, Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.LATE}
    assert failures(frozenset(fates)) == []


def test_the_run_makes_every_kind_of_call() -> None:
    kinds = {one.kind for one in calls()}
    wanted = {"db.read", "db.write", "agent.enrol", "agent.beat"}
    wanted |= {f"cloud.{verb}" for verb in ("offers", "create", "get", "list", "delete")}
    assert wanted <= kinds
