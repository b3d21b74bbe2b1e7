"""What a check run is called, where it stands, what can be pressed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources, Spot
from simulators.github_checks import ACTION_LIMITS
from tests.builders import NOON, a_lost, a_run, a_spec, an_attempt
from webhook_server import intents
from webhook_server.runs.model import (
    Cause,
    Hold,
    Origin,
    Outcome,
    Reason,
    Run,
    State,
    SweepPart,
)
from webhook_server.runs.standing import buttons, name_of, shown_as, standing

HOLD = Hold(reasons=("it may cost $9",), cap_usd=Decimal(9), who="admin")
PART = SweepPart(id="comment/1/0", index=1, count=4)


def pressed(run: Run) -> list[str]:
    return [button["identifier"] for button in buttons(run)]


def an_end(outcome: Outcome, cause: Cause, spot: Spot = Spot.PREFER, **changes: Any) -> Run:
    run = replace(a_run(State.FINISHED), spec=a_spec(resources=Resources(spot=spot)))
    return replace(run, outcome=outcome, reason=Reason(cause=cause, text=""), **changes)


# ── the name ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        (Origin(), "cynthus/digits"),
        (Origin(asked_by="ada"), "cynthus/digits"),
        (Origin(retries="arun00000000"), "cynthus/digits"),
        (
            Origin(overrides=(("lr", "1e-4"), ("seed", "2")), sweep=PART),
            "cynthus/digits (lr=1e-4, seed=2)",
        ),
        (Origin(sweep=PART), "cynthus/digits (sweep 2 of 4)"),
        (Origin(reproduces="arun00000003"), "cynthus/digits (reproduces digits #3)"),
    ],
)
def test_only_a_run_of_the_file_as_it_stands_fills_the_check_that_a_branch_requires(
    origin: Origin, name: str
) -> None:
    original = a_run(State.FINISHED, number=3)
    assert name_of(a_run(origin=origin), original) == name


def test_a_reproduction_of_an_unknown_run_names_its_id() -> None:
    run = a_run(origin=Origin(reproduces="arun00000003"))
    assert name_of(run) == "cynthus/digits (reproduces arun00000003)"
    assert name_of(run, a_run(spec=None)) == name_of(run)


def test_a_name_is_cut_and_stays_the_same_over_the_runs_life() -> None:
    origin = Origin(overrides=tuple((f"env.KEY_{n}", "x" * 50) for n in range(9)))
    names = {name_of(a_run(state, origin=origin)) for state in State}
    assert [len(name) for name in names] == [100]


# ── where it stands ─────────────────────────────────────────────────────────────────────────────


def test_a_held_run_asks_for_a_person_and_goes_on_once_it_was_approved() -> None:
    held = a_run(State.QUEUED, hold=HOLD)
    assert standing(held) == ("completed", "action_required")
    assert shown_as(held) == "held"
    assert standing(replace(held, hold=None)) == ("queued", None)
    going = replace(held, state=State.PROVISIONING)
    assert (standing(going), shown_as(going)) == (("in_progress", None), "provisioning")


@pytest.mark.parametrize(
    ("outcome", "cause", "conclusion"),
    [
        (Outcome.CANCELLED, Cause.SUPERSEDED, "cancelled"),
        (Outcome.FAILED, Cause.GATE, "failure"),
        (Outcome.FAILED, Cause.POLICY, "failure"),
        (Outcome.OVER_BUDGET, Cause.BUDGET, "action_required"),
        (Outcome.INFRASTRUCTURE, Cause.PREEMPTED, "failure"),
    ],
)
def test_an_end_has_the_conclusion_that_a_pull_request_needs(
    outcome: Outcome, cause: Cause, conclusion: str
) -> None:
    assert standing(an_end(outcome, cause)) == ("completed", conclusion)


# ── buttons ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (a_run(State.RUNNING, pull_request=7), ["cancel", "extend", "logs"]),
        (a_run(State.RUNNING), ["cancel", "extend"]),
        (a_run(State.QUEUED, hold=HOLD, pull_request=7), ["approve", "cancel"]),
        (an_end(Outcome.SUCCEEDED, Cause.EXIT, pull_request=7), ["logs"]),
        (an_end(Outcome.SUCCEEDED, Cause.EXIT), []),
        (
            an_end(Outcome.INFRASTRUCTURE, Cause.PREEMPTED, pull_request=7),
            ["retry_on_demand", "logs"],
        ),
        (an_end(Outcome.INFRASTRUCTURE, Cause.NO_CAPACITY), ["retry_on_demand"]),
        (an_end(Outcome.INFRASTRUCTURE, Cause.NO_CAPACITY, Spot.NEVER), []),
        (an_end(Outcome.SUCCEEDED, Cause.EXIT, attempts=(a_lost(1), an_attempt(2))), []),
        (an_end(Outcome.CANCELLED, Cause.CANCELLED, spec=None), []),
    ],
)
def test_what_can_be_pressed_is_what_helps_there(run: Run, names: list[str]) -> None:
    assert pressed(run) == names


def test_the_last_attempts_cause_counts_when_the_run_gives_another_one() -> None:
    reason = Reason(cause=Cause.PREEMPTED, text="taken back")
    lost = an_attempt(reason=reason, lost=True, ended_at=NOON)
    assert pressed(an_end(Outcome.INFRASTRUCTURE, Cause.PROGRESS, attempts=(lost,))) == [
        "retry_on_demand"
    ]


def test_every_button_is_within_githubs_limits() -> None:
    shown = [
        a_run(State.RUNNING, pull_request=7),
        a_run(State.QUEUED, hold=HOLD),
        an_end(Outcome.INFRASTRUCTURE, Cause.PREEMPTED, pull_request=7),
    ]
    for run in shown:
        assert len(buttons(run)) <= 3
        for button in buttons(run):
            assert {name: len(button[name]) <= most for name, most in ACTION_LIMITS.items()} == (
                dict.fromkeys(ACTION_LIMITS, True)
            )
    assert pressed(shown[0])[0] == intents.CANCEL
