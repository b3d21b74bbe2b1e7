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
from webhook_server.runs.builds import (
    is_behind,
    lender,
    payload,
    refused_text,
    shared_failure,
)
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


def waiting(number: int, **changes: Any) -> Run:
    """A run of a sweep: the same commit and file, made one after the other."""
    given: dict[str, Any] = {
        "id": f"arun{number:08d}",
        "key": a_key(trigger=f"comment/7/0/{number}"),
        "created_at": NOON + timedelta(seconds=number),
        "origin": Origin(wants_build=True),
        "image": None,
        "state": State.BUILDING,
    }
    return a_run(**(given | changes))


def test_of_a_sweep_the_first_run_asks_and_the_others_wait() -> None:
    sweep = [waiting(number) for number in range(3)]
    assert [is_behind(run, sweep) for run in sweep] == [False, True, True]
    assert lender(sweep[1], sweep) is None


@pytest.mark.parametrize(
    "other",
    [
        waiting(0, key=a_key(commit_sha="c" * 40)),
        waiting(0, key=a_key(spec_path="other.yaml")),
        waiting(0, origin=Origin(wants_build=True, fork=True)),
        waiting(0, origin=Origin()),
        waiting(0, state=State.FINISHED, finished_at=NOON),
    ],
)
def test_nobody_waits_for_the_build_of_something_else(other: Run) -> None:
    assert not is_behind(waiting(1), [other])


def test_what_the_first_run_got_the_others_take() -> None:
    first = waiting(0, state=State.QUEUED, image=IMAGE)
    assert lender(waiting(1), [first]) is first
    assert lender(waiting(1, origin=Origin(wants_build=True, fork=True)), [first]) is None


@pytest.mark.parametrize(("made_s", "shared"), [(1, True), (120, False)])
def test_a_failure_counts_for_those_who_waited_for_it(made_s: int, shared: bool) -> None:
    reason = Reason(cause=Cause.BUILD, text="no package fits")
    ended = NOON + timedelta(seconds=60)
    first = waiting(0, state=State.FINISHED, reason=reason, finished_at=ended)
    told = shared_failure(waiting(made_s), [first])
    assert (told is not None) is shared
    assert ("no package fits" in (told or "")) is shared


def test_a_refusal_says_which_permission_to_give() -> None:
    told = refused_text("POST /dispatches: GitHub refuses it with 403: no.")
    assert "contents: write" in told
    assert "403" in told
