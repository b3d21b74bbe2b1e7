"""Name the hard places that a history reached: a batch that never reaches one proves little.

All are read from what is left of a history: its log, what the server said, its database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation.ended import Ended
from tests.simulation.fates import Fate
from tests.simulation.oracles import changes, finished_at, machines, runs
from webhook_server.runs.model import Outcome, Run, State

#: What was logged, by its template.
_SAID = {
    "race lost run=%s version=%d": "race_lost",
    "run parked run=%s": "parked",
    "pass failed run=%s tries=%d": "pass_failed",
    "giving up failed run=%s": "giving_up_failed",
    "loop failed name=%s": "loop_failed",
    "deletion refused name=%s detail=%s": "deletion_refused",
    "sweep skipped provider=%s detail=%s": "sweep_skipped",
    "leftover instance deleted name=%s provider=%s": "leftover_swept",
    "unknown instance seen name=%s provider=%s": "stray_seen",
    "unknown instance deleted name=%s provider=%s": "stray_deleted",
    "warm instance ended name=%s run=%s": "warm_given_back",
}
#: Facts and fates, by kind.
_HAPPENED = {
    "replica.died": "replica_killed",
    "replica.paused": "replica_paused",
    "machine.rebooted": "machine_rebooted",
    "machine.taken": "machine_taken",
}
_OUTCOMES = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
    Outcome.OVER_BUDGET: "over_budget",
    Outcome.INFRASTRUCTURE: "gave_up",
}
_CAUSES = ("silent", "preempted", "no_capacity", "boot", "host_error", "stopped", "suspended")
_OF_FATES = {
    ("cloud.create", Fate.ANSWER_LOST): "create_answer_lost",
    ("cloud.create", Fate.CRASH_AFTER): "killed_after_create",
    ("cloud.create", Fate.CRASH_BEFORE): "killed_before_create",
    ("cloud.delete", Fate.ANSWER_LOST): "delete_answer_lost",
    ("cloud.delete", Fate.LATE): "late_delete",
    ("db.write", Fate.ANSWER_LOST): "commit_unknown_stored",
    ("db.write", Fate.REQUEST_LOST): "commit_unknown_not_stored",
    ("db.write", Fate.CRASH_AFTER): "killed_after_commit",
    ("agent.beat", Fate.LATE): "late_beat",
    ("agent.enrol", Fate.ANSWER_LOST): "enrolment_answer_lost",
}
#: Every mark: a batch of ten thousand must reach each.
MARKS = frozenset(
    {
        *_SAID.values(),
        *_HAPPENED.values(),
        *_OUTCOMES.values(),
        *(f"lost_{cause}" for cause in _CAUSES),
        *_OF_FATES.values(),
        *("late_create_took_effect", "born_again", "gang", "two_runs_live", "three_attempts"),
        *("lost_then_succeeded", "create_repeated", "deleted_unseen_create", "warm_taken"),
        *("control_plane_dead", "second_provider", "replaced_before_gone", "lease_outlived"),
    }
)


def marks(ended: Ended) -> frozenset[str]:
    """Return the marks that a history reached."""
    return frozenset(mark for source in _SOURCES for mark in source(ended))


def _of_log(ended: Ended) -> Iterator[str]:
    for _, template, _ in ended.record.said:
        if template in _SAID:
            yield _SAID[template]
    creates: dict[str, int] = {}
    for one in ended.record.log:
        if one.kind in _HAPPENED:
            yield _HAPPENED[one.kind]
        if one.fate and one.fate != Fate.OK and (one.kind, one.fate) in _OF_FATES:
            yield _OF_FATES[one.kind, Fate(one.fate)]
        if one.kind == "cloud.create":
            creates[one.name] = creates.get(one.name, 0) + 1
    if any(number > 1 for number in creates.values()):
        yield "create_repeated"


def _of_machines(ended: Ended) -> Iterator[str]:
    late = {
        one.name for one in ended.record.log if (one.kind, one.fate) == ("cloud.create", Fate.LATE)
    }
    found = machines(ended)
    if late & {life.name for life in found}:
        yield "late_create_took_effect"
    if any("#" in life.uid for life in found):
        yield "born_again"
    born = {life.name for life in found}
    deleted = {one.name for one in ended.record.log if one.kind == "cloud.delete"}
    if deleted - born:
        yield "deleted_unseen_create"
    for life in found:
        later = [two.born_at for two in found if two.run_id == life.run_id]
        if any(life.born_at < at < (life.gone_at or 0) for at in later if life.run_id):
            yield "replaced_before_gone"


def _of_runs(ended: Ended) -> Iterator[str]:
    for run in runs(ended).values():
        if run.state is State.FINISHED and run.outcome in _OUTCOMES:
            yield _OUTCOMES[run.outcome]
        yield from _of_attempts(run)
    for row in ended.rows["kept"]:
        if row[2]:
            yield "warm_taken"
    if ended.scenario.dies_at is not None:
        yield "control_plane_dead"


def _of_attempts(run: Run) -> Iterator[str]:
    for attempt in run.attempts:
        cause = attempt.reason.cause.value if attempt.reason else ""
        if attempt.lost and cause in _CAUSES:
            yield f"lost_{cause}"
        if len(attempt.members) > 1 and attempt.exit is not None:
            yield "gang"
        if attempt.offer.provider == "far":
            yield "second_provider"
    if len(run.attempts) > 2:
        yield "three_attempts"
    if run.outcome is Outcome.SUCCEEDED and len(run.attempts) > 1:
        yield "lost_then_succeeded"


def _of_overlaps(ended: Ended) -> Iterator[str]:
    spans = [(seen[0].at, finished_at(seen) or ended.ended_at) for seen in changes(ended).values()]
    if any(a[0] < b[0] < a[1] for a in spans for b in spans):
        yield "two_runs_live"
    # A replica claimed what another one's claim had not ended: its lease ran out.
    held = ""
    for one in ended.record.log:
        if (one.kind, one.name) == ("db.write", "RunStore.save") and one.replica:
            held = one.replica
        if one.kind == "replica.paused" and one.name == held:
            yield "lease_outlived"


_SOURCES: tuple[Callable[[Ended], Iterator[str]], ...] = (
    _of_log,
    _of_machines,
    _of_runs,
    _of_overlaps,
)
