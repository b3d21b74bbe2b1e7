"""Name the hard places of a history with GitHub, as `marks` names those of the engine."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.ended import Ended
from tests.simulation.fates import Fate
from tests.simulation.github_history import GithubHistory

#: What was logged, by its template.
_SAID = {
    "delivery put off guid=%s tries=%s note=%s": "delivery_put_off",
    "delivery not stored guid=%s kind=%s": "delivery_not_stored",
    "redelivery asked guid=%s delivered_at=%s": "redelivery_asked",
    "delivery sweep put off reason=%s": "redelivery_put_off",
    "publication put off subject=%s kind=%s failures=%s reason=%s": "publication_put_off",
    "publication refused subject=%s kind=%s note=%s": "publication_refused",
    "build asked for run=%s repository=%s": "build_asked",
    "release published run=%s tag=%s": "release_published",
    "not acknowledged comment=%s note=%s": "comment_not_acknowledged",
    "not permitted sender=%s role=%s verb=%s": "not_permitted",
}
_SHOWN = {"pressed": "button_pressed", "pull.closed": "pull_closed"}
#: What a call of GitHub does when it changes something, by its method and path's beginning.
_CHANGES = {
    "github.POST check-runs": "check_run_create",
    "github.PATCH check-runs/{}": "check_run_update",
    "github.POST releases": "release_create",
    "github.POST issues/{}/comments": "comment_create",
    "github.POST dispatches": "dispatch",
}
_HARD = {Fate.ANSWER_LOST: "answer_lost", Fate.LATE: "late", Fate.CRASH_AFTER: "killed_after"}
_TRIGGERS = ("push", "comment", "rerun")
MARKS = frozenset(
    {
        *_SAID.values(),
        *_SHOWN.values(),
        *(f"{name}_{how}" for name in _CHANGES.values() for how in _HARD.values()),
        *(f"run_by_{name}" for name in _TRIGGERS),
        *("run_cancelled", "run_of_fork", "run_approved", "several_runs", "run_retried"),
        *("delivered_twice", "delivery_overtaken", "delivery_refused", "delivery_forged"),
        *("check_run_twin", "outputs_told"),
    }
)


def marks_with_github(ended: Ended, history: GithubHistory) -> frozenset[str]:
    """Return the marks of GitHub's half that a history reached."""
    return frozenset(
        mark
        for source in (_of_log, _of_calls, _of_deliveries, _of_runs)
        for mark in source(ended, history)
    )


def _of_log(ended: Ended, history: GithubHistory) -> Iterator[str]:
    for _, template, _ in ended.record.said:
        if template in _SAID:
            yield _SAID[template]
    for one in history.log:
        if one.what in _SHOWN:
            yield _SHOWN[one.what]


def _of_calls(ended: Ended, _: GithubHistory) -> Iterator[str]:
    for one in ended.record.log:
        name, fate = _CHANGES.get(one.kind), Fate(one.fate or Fate.OK)
        if name is not None and fate in _HARD:
            yield f"{name}_{_HARD[fate]}"


def _of_deliveries(_: Ended, history: GithubHistory) -> Iterator[str]:
    seen: dict[str, int] = {}
    newest = 0  # ids grow with the events that they tell of
    for sent in history.deliveries:
        seen[sent.guid] = seen.get(sent.guid, 0) + 1
        if not sent.genuine:
            yield "delivery_forged"
        elif not sent.acked:
            yield "delivery_refused"
        if sent.genuine and seen[sent.guid] == 1 and sent.id < newest:
            yield "delivery_overtaken"
        newest = max(newest, sent.id)
    if any(number > 1 for number in seen.values()):
        yield "delivered_twice"


def _of_runs(_: Ended, history: GithubHistory) -> Iterator[str]:
    if len(history.runs) > 1:
        yield "several_runs"
    for run in history.runs:
        trigger = run.trigger.partition("/")[0]
        told: dict[str, object] = {
            f"run_by_{trigger}": trigger in _TRIGGERS,
            "run_cancelled": run.outcome == "cancelled",
            "run_of_fork": run.fork,
            "run_approved": run.approved_by,
            "run_retried": run.retries,
            "outputs_told": run.outputs,
        }
        yield from (name for name, reached in told.items() if reached)
    shown = [(repository, row.external_id) for repository, row in history.check_runs]
    if len(shown) > len(set(shown)):
        yield "check_run_twin"
