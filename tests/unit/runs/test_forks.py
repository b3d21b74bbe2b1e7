"""What a run of a fork's commit does without."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cynthus.spec import Resources
from cynthus.wire import AgentState
from tests.builders import (
    IMAGE,
    NOON,
    OUTPUT,
    a_key,
    a_run,
    a_spec,
    an_agent,
    an_attempt,
    an_exit,
)
from webhook_server.runs import forks
from webhook_server.runs.builds import payload, refused_text
from webhook_server.runs.images import reusable
from webhook_server.runs.model import (
    Cause,
    Origin,
    Outcome,
    Reason,
    Run,
    State,
    Verdict,
    deserves_release,
)
from webhook_server.runs.warm import keep_until
from webhook_server.runs.work import Limits, work_for

FORK = Origin(fork=True)
LIMITS = Limits(max_duration=timedelta(hours=1), log_bytes=1, output_bytes=1, output_files=1)


def test_a_fork_gets_no_secret_whoever_hands_it_over() -> None:
    spec = a_spec(secrets=("HF_TOKEN",))
    ours, fork = a_run(spec=spec), a_run(spec=spec, origin=FORK)
    assert forks.secret_names(ours) == ("HF_TOKEN",)
    assert forks.secret_names(fork) == ()
    given = work_for(ours, an_attempt(), 0, {"HF_TOKEN": "x"}, LIMITS, NOON)
    assert given.secrets == {"HF_TOKEN": "x"}
    with pytest.raises(ValueError, match="gets no secrets"):
        work_for(fork, an_attempt(), 0, {"HF_TOKEN": "x"}, LIMITS, NOON)


def test_a_fork_is_told_what_it_does_without() -> None:
    [secrets, release] = forks.notices(a_spec(secrets=("A", "B")))
    assert "none of its secrets: A, B" in secrets
    assert "no release" in release
    assert len(forks.notices(a_spec())) == 1
    assert len(forks.notices(None)) == 1


@pytest.mark.parametrize(("origin", "released"), [(Origin(), True), (FORK, False)])
def test_a_fork_s_outputs_become_no_release(origin: Origin, released: bool) -> None:
    run = a_run(
        State.RELEASING,
        outcome=Outcome.SUCCEEDED,
        outputs=(OUTPUT,),
        wants_release=True,
        origin=origin,
    )
    assert deserves_release(run) is released


@pytest.mark.parametrize(("origin", "kept"), [(Origin(), True), (FORK, False)])
def test_a_fork_s_machine_is_kept_for_nobody(origin: Origin, kept: bool) -> None:
    spec = a_spec(keep_warm=timedelta(minutes=10), resources=Resources())
    run = a_run(spec=spec, origin=origin)
    ended = Verdict(
        outcome=Outcome.SUCCEEDED, reason=Reason(cause=Cause.EXIT, text="it ended with 0")
    )
    agent = an_agent(AgentState.DONE, exit=an_exit())
    attempt = an_attempt(max_life=timedelta(hours=2))
    assert (keep_until(run, attempt, ended, agent, NOON) is not None) is kept


# ── images ──────────────────────────────────────────────────────────────────────────────────────


def with_image(**changes: Any) -> Run:
    return a_run(**({"image": IMAGE} | changes))


@pytest.mark.parametrize(
    ("run", "fork", "found"),
    [
        (with_image(), False, True),
        (with_image(image=None), False, False),
        (with_image(key=a_key(spec_path="other.yaml")), False, False),
        (with_image(key=a_key(commit_sha="c" * 40)), False, False),
        (with_image(key=a_key(trigger="comment/1/0")), False, True),
        (with_image(origin=FORK), False, False),
        (with_image(origin=FORK), True, True),
        (with_image(), True, False),
    ],
)
def test_an_image_is_used_again_for_its_commit_file_and_side(
    run: Run, fork: bool, found: bool
) -> None:
    assert (reusable([run], "b" * 40, "cynthus.yaml", fork=fork) is run) is found


def test_the_first_of_several_images_is_taken() -> None:
    runs = [with_image(image=None), with_image(id="second"), with_image(id="third")]
    taken = reusable(runs, "b" * 40, "cynthus.yaml", fork=False)
    assert taken is not None
    assert taken.id == "second"


# ── builds ──────────────────────────────────────────────────────────────────────────────────────


def test_a_workflow_is_told_what_to_build_in_no_more_than_github_allows() -> None:
    run = a_run(key=a_key(trigger="comment/7/0"), pull_request=3, origin=FORK)
    told = payload(run)
    assert told == {
        "run_id": run.id,
        "commit_sha": "b" * 40,
        "spec_path": "cynthus.yaml",
        "trigger": "comment/7/0",
        "pull_request": 3,
        "fork": True,
    }
    assert len(told) <= 10


def test_a_refusal_says_which_permission_to_give() -> None:
    told = refused_text("POST /dispatches: GitHub refuses it with 403: no.")
    assert "contents: write" in told
    assert "403" in told
