"""What a newer commit outdates, and what is said of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources
from tests.builders import NOON, a_key, a_run, a_spec, an_attempt, an_offer
from webhook_server.runs.decide import decide
from webhook_server.runs.model import Cause, Origin, Outcome, Run, State
from webhook_server.runs.observations import CancelWish, Observations
from webhook_server.runs.policy import CLOUD, policy_of
from webhook_server.runs.superseded import newer_commit, outdated, saving

OLD, HEAD = "a" * 40, "b" * 40


def of(sha: str, **changes: Any) -> Run:
    return a_run(**({"key": a_key(commit_sha=sha)} | changes))


@pytest.mark.parametrize(
    ("run", "head", "is_outdated"),
    [
        (of(OLD), HEAD, True),
        (of(HEAD), HEAD, False),
        (of(HEAD), None, True),  # the pull request's end leaves no head
        (of(OLD, state=State.FINISHED), HEAD, False),
        (of(OLD, state=State.RELEASING, outcome=Outcome.SUCCEEDED), HEAD, False),
        (of(OLD, origin=Origin(asked_by="ada")), HEAD, True),  # whoever started it
        (of(OLD, origin=Origin(reproduces="x")), HEAD, False),
        (of(OLD, origin=Origin(reproduces="x")), None, True),
    ],
)
def test_live_runs_of_other_commits_are_outdated(
    run: Run, head: str | None, is_outdated: bool
) -> None:
    assert outdated([run], head) == ((run,) if is_outdated else ())


def limited(usd: str | None) -> Any:
    most = None if usd is None else Decimal(usd)
    return a_spec(resources=Resources(max_cost_usd=most))


HALF_AN_HOUR = (an_attempt(ordered_at=NOON, offer=an_offer(usd_per_hour=Decimal("3.80"))),)


@pytest.mark.parametrize(
    ("limit", "attempts", "said"),
    [
        ("5", HALF_AN_HOUR, "$3.10 of its $5.00 were not spent"),
        ("5", (), "$5.00 of its $5.00 were not spent"),
        ("1", HALF_AN_HOUR, "it had cost $1.90"),
        (None, (), "it had cost nothing yet"),
    ],
)
def test_what_was_not_spent_is_said(limit: str | None, attempts: Any, said: str) -> None:
    run = a_run(attempts=attempts, spec=limited(limit))
    assert saving(run, limited(limit), NOON + timedelta(minutes=30), CLOUD) == said


def test_without_a_limit_what_is_ordered_counts() -> None:
    run = a_run(attempts=HALF_AN_HOUR, spec=limited(None))
    said = saving(run, limited(None), NOON + timedelta(minutes=30), CLOUD)
    assert said.endswith("were not spent")


@pytest.mark.parametrize("state", [State.BUILDING, State.QUEUED])
def test_a_superseded_run_says_by_what_and_what_it_saved(state: State) -> None:
    wish = CancelWish(by=newer_commit(HEAD), at=NOON, superseded=True)
    run = of(OLD, state=state, spec=limited("5"))
    found = decide(run, Observations(cancel=wish), NOON, policy_of("fake")).run
    assert found.outcome is Outcome.CANCELLED
    assert found.reason.cause is Cause.SUPERSEDED
    assert found.reason.text == (
        "superseded by a newer commit bbbbbbb: $5.00 of its $5.00 were not spent"
    )


@pytest.mark.case("C12")
def test_c12_a_superseded_run_keeps_its_commit() -> None:
    wish = CancelWish(by=newer_commit(HEAD), at=NOON, superseded=True)
    found = decide(of(OLD), Observations(cancel=wish), NOON, policy_of("fake")).run
    assert found.key == of(OLD).key
