"""The hard places of histories with GitHub are told from what is left of them."""

from __future__ import annotations

import pytest

from tests.simulation.ended import Ended
from tests.simulation.fates import Fate
from tests.simulation.github import Sent, Shown
from tests.simulation.github_history import GithubHistory, RunSeen
from tests.simulation.marks_github import MARKS, marks_with_github
from tests.simulation.record import Happened, Record
from tests.simulation.scenario import Scenario
from tests.simulation.scheduler import EPOCH


def a_history(record: Record) -> Ended:
    return Ended(scenario=Scenario(), record=record, rows={}, ended_at=100.0)


def a_call(kind: str, fate: Fate) -> Happened:
    return Happened(at=1.0, replica="r1", kind=kind, name="", fate=fate)


def a_delivery(id_: int, guid: str, status: int = 202, *, genuine: bool = True) -> Sent:
    return Sent(
        id=id_,
        guid=guid,
        event="push",
        body=b"{}",
        delivered_at=EPOCH,
        status=status,
        genuine=genuine,
    )


def a_run(trigger: str = "push/1", outcome: str = "succeeded", **changes: object) -> RunSeen:
    given = {"id": "a", "repository_id": 7, "sha": "5", "created_at": EPOCH, "trigger": trigger}
    return RunSeen(**(given | {"outcome": outcome} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("calls", "said", "history", "reached"),
    [
        ([], [], GithubHistory(), set()),
        ([a_call("github.POST check-runs", Fate.OK)], [], GithubHistory(), set()),
        (
            [a_call("github.POST check-runs", Fate.LATE), a_call("github.GET ", Fate.LATE)],
            [],
            GithubHistory(),
            {"check_run_create_late"},
        ),
        (
            [a_call("github.POST releases", Fate.CRASH_AFTER)],
            [(1.0, "release published run=%s tag=%s", "a v1")],
            GithubHistory(),
            {"release_create_killed_after", "release_published"},
        ),
        (
            [],
            [],
            GithubHistory(log=(Shown(at=EPOCH, what="pressed", repository_id=7),)),
            {"button_pressed"},
        ),
        (
            [],
            [],
            GithubHistory(deliveries=(a_delivery(2, "b"), a_delivery(1, "a", 503))),
            {"delivery_overtaken", "delivery_refused"},
        ),
        (
            [],
            [],
            GithubHistory(deliveries=(a_delivery(1, "a"), a_delivery(1, "a"))),
            {"delivered_twice"},
        ),
        (
            [],
            [],
            GithubHistory(deliveries=(a_delivery(1, "a", genuine=False),)),
            {"delivery_forged"},
        ),
        (
            [],
            [],
            GithubHistory(runs=(a_run("comment/9", "cancelled", fork=True), a_run("other/1"))),
            {"run_by_comment", "run_cancelled", "run_of_fork", "several_runs"},
        ),
    ],
)
def test_a_mark_is_told_from_what_is_left(
    calls: list[Happened],
    said: list[tuple[float, str, str]],
    history: GithubHistory,
    reached: set[str],
) -> None:
    ended = a_history(Record(log=calls, said=said))
    assert marks_with_github(ended, history) == reached
    assert reached <= MARKS
