"""Say in GitHub's words what a check run is called, where it stands, and what it offers: pure.

A held run is completed with `action_required`, so that its button can be pressed; an update with a
status opens it again. https://docs.github.com/rest/checks/runs#create-a-check-run
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from cynthus.spec import Spot
from webhook_server.runs.hostile import title
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.terms import is_held

_NAME_LIMIT = 100  # signs: lists of checks show no more, and a required check is chosen by it

Button = Mapping[str, str]

# GitHub's limits: three buttons; label 20, description 40, identifier 20 signs.
# https://docs.github.com/rest/checks/runs#create-a-check-run
_CANCEL = {"label": "Cancel", "description": "Stop this run now", "identifier": "cancel"}
_EXTEND = {"label": "Extend", "description": "Give it a quarter more time", "identifier": "extend"}
_LOGS = {"label": "Logs", "description": "Show the log's end in a comment", "identifier": "logs"}
_APPROVE = {
    "label": "Approve",
    "description": "Let exactly this run start",
    "identifier": "approve",
}
_ON_DEMAND = {
    "label": "Retry on demand",
    "description": "Run again, not on spot machines",
    "identifier": "retry_on_demand",
}
#: What another kind of machine may cure.
_LOST = frozenset({Cause.PREEMPTED, Cause.NO_CAPACITY})


def name_of(run: Run, original: Run | None = None) -> str:
    """Return the check run's name; required checks are chosen by it, so it never changes.

    Only a run of the file as it stands has the plain name: a sweep, an override or a reproduction
    says what it is, and neither fills nor blocks the check that a branch requires. `original` is
    the run that this one reproduces.
    """
    name = f"cynthus/{run.spec.name}" if run.spec else "cynthus"
    return title(f"{name}{_difference(run, original)}", _NAME_LIMIT)


def _difference(run: Run, original: Run | None) -> str:
    parts = [f"{key}={value}" for key, value in run.origin.overrides]
    if run.origin.reproduces:
        parts.append(f"reproduces {reproduced(run, original)}")
    elif run.origin.sweep is not None and not parts:
        parts.append(f"sweep {run.origin.sweep.index + 1} of {run.origin.sweep.count}")
    return f" ({', '.join(parts)})" if parts else ""


def reproduced(run: Run, original: Run | None) -> str:
    """Return what people call the run that this one reproduces; its id, where that is all."""
    if original is None or original.spec is None:
        return run.origin.reproduces or ""
    return f"{original.spec.name} #{original.number}"


def status_of(state: State) -> str:
    """Return GitHub's word for where a run stands that waits for nobody."""
    match state:
        case State.BUILDING | State.QUEUED:
            return "queued"
        case State.PROVISIONING | State.RUNNING | State.COLLECTING | State.RELEASING:
            return "in_progress"
        case State.FINISHED:
            return "completed"
        case _:
            assert_never(state)


def conclusion_of(outcome: Outcome | None) -> str:
    """Return GitHub's word for how a run ended.

    What was superseded is cancelled, not neutral: a neutral check would let a pull request merge.
    """
    match outcome:
        case Outcome.SUCCEEDED:
            return "success"
        case Outcome.FAILED | Outcome.INFRASTRUCTURE | None:
            return "failure"
        case Outcome.CANCELLED:
            return "cancelled"
        case Outcome.TIMED_OUT:
            return "timed_out"
        case Outcome.OVER_BUDGET:
            return "action_required"  # only a person can raise the limit
        case _:
            assert_never(outcome)


def standing(run: Run) -> tuple[str, str | None]:
    """Return the check run's status and conclusion."""
    if is_held(run):
        return "completed", "action_required"
    if run.state is State.FINISHED:
        return "completed", conclusion_of(run.outcome)
    return status_of(run.state), None


def shown_as(run: Run) -> str:
    """Return one word for what the check run shows: a new word is news that waits for nothing."""
    return "held" if is_held(run) else run.state.value


def buttons(run: Run) -> tuple[Button, ...]:
    """Return what can be pressed. GitHub shows it once a check run is completed, not before.

    A finished run has GitHub's own "Re-run". A log's end is told in the pull request's comment,
    so without a pull request there is no button for it; the check run shows it anyway.
    """
    logs = (_LOGS,) if run.pull_request is not None else ()
    if is_held(run):
        return (_APPROVE, _CANCEL)
    if run.state is not State.FINISHED:
        return (_CANCEL, _EXTEND, *logs)
    return (_ON_DEMAND, *logs) if spot_failed(run) else logs


def spot_failed(run: Run) -> bool:
    """Say whether the run ended for want of a spot machine, or by losing one."""
    if run.outcome is Outcome.SUCCEEDED or run.spec is None:
        return False
    causes = {run.reason.cause, *(a.reason.cause for a in run.attempts[-1:] if a.reason)}
    return run.spec.resources.spot is not Spot.NEVER and bool(causes & _LOST)
