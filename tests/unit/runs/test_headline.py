"""The title of a check run, and what it foretells."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources
from tests.builders import NOON, a_run, a_spec, an_attempt, an_offer, seconds
from webhook_server.runs.feed_facts import Feed, Pace
from webhook_server.runs.headline import TITLE_LIMIT, lasting, place_text, release_tag, title
from webhook_server.runs.model import (
    Approval,
    Cause,
    Extension,
    Grant,
    Hold,
    Outcome,
    Reason,
    Run,
    State,
)
from webhook_server.runs.pace import Left, expected_usd, remaining, time_left
from webhook_server.runs.terms import ends_by, longest, most_usd

L4 = an_offer(
    provider="gcp",
    place="us-central1-a",
    machine="g2-standard-4",
    gpu_type="l4",
    gpu_count=1,
    usd_per_hour=Decimal("0.70"),
)
HALF_PAST = NOON + timedelta(minutes=36)


def training(**changes: Any) -> Run:
    spec = a_spec(resources=Resources(max_cost_usd=Decimal(5), max_duration=timedelta(hours=2)))
    given = {"spec": spec, "attempts": (an_attempt(offer=L4, started_at=NOON),)}
    return replace(a_run(State.RUNNING), **(given | changes))


def a_pace(first: float, newest: float, minutes: float) -> Pace:
    return Pace(
        first_at=NOON,
        first=first,
        newest_at=NOON + timedelta(minutes=minutes),
        newest=newest,
    )


def test_a_running_run_says_all_in_one_line() -> None:
    feed = Feed(
        phase="train",
        progress=0.6,
        pace=a_pace(0.0, 0.6, 27),
        metrics={"loss": (0.4,), "epoch": (11.0, 12.0), "epochs": (20.0,)},
    )
    now = NOON + timedelta(minutes=27)
    assert title(training(), feed, now) == (
        "running · train · epoch 12/20 · L4 us-central1-a · $0.32 of $5.00 · 18 min left"
    )
    assert lasting(training(), feed, now) == "running · train · epoch 12/20 · L4 us-central1-a"


@pytest.mark.parametrize(
    ("feed", "told"),
    [
        (Feed(), "running · L4"),
        (Feed(progress=0.355), "running · 36% · L4"),
        (Feed(metrics={"epoch": (3.0,)}), "running · epoch 3 · L4"),
        (Feed(metrics={"loss": (0.5,)}), "running · loss 0.5 · L4"),
        (Feed(metrics={"loss": ()}), "running · L4"),
        (Feed(phase="a\n@b"), "running · a @\u200bb · L4"),
    ],
)
def test_every_part_of_it_is_optional(feed: Feed, told: str) -> None:
    assert title(training(), feed, NOON).startswith(told)


def test_whoever_waits_says_no_place_and_a_new_attempt_is_counted() -> None:
    assert title(a_run(State.QUEUED), Feed(), NOON) == "queued"
    again = training(attempts=(an_attempt(offer=L4), an_attempt(2, offer=L4)))
    found = title(replace(again, state=State.QUEUED), Feed(), NOON)
    assert found == "queued (attempt 2) · $0.00 of $5.00"


def test_a_held_run_waits_for_approval() -> None:
    hold = Hold(reasons=("it may cost $9",), cap_usd=Decimal(9), who="admin")
    assert title(a_run(State.QUEUED, hold=hold), Feed(), NOON) == "waiting for approval"


def test_a_finished_run_says_its_end_its_metrics_and_its_release() -> None:
    run = training(
        state=State.FINISHED,
        outcome=Outcome.SUCCEEDED,
        finished_at=HALF_PAST,
        cost_usd=Decimal("0.42"),
        release_url="https://github.test/acme/vision/releases/tag/cynthus/digits/3",
    )
    feed = Feed(metrics={"epoch": (20.0,), "accuracy": (0.98,), "loss": (0.1,), "f1": (0.9,)})
    assert title(run, feed, HALF_PAST + timedelta(days=1)) == (
        "succeeded · 36m00s · $0.42 of $5.00 · accuracy 0.98 · loss 0.1 · cynthus/digits/3"
    )
    assert lasting(run, feed, NOON) == title(run, feed, NOON), "nothing of it ticks any more"


@pytest.mark.parametrize("url", [None, "", "https://x.test/releases/5", "a/releases/tag/x y"])
def test_what_is_no_tag_is_not_shown(url: str | None) -> None:
    assert release_tag(a_run(release_url=url)) == ""


def test_a_long_reason_does_not_push_the_rest_out() -> None:
    reason = Reason(cause=Cause.EXIT, text="x" * 500)
    run = a_run(State.FINISHED, outcome=Outcome.FAILED, reason=reason, finished_at=HALF_PAST)
    found = title(run, Feed(metrics={"m" * 300: (1.0,), "n" * 300: (1.0,)}), NOON)
    assert len(found) <= TITLE_LIMIT
    assert " · 36m00s · $0.00 · " in found


@pytest.mark.parametrize(
    ("offer", "nodes", "told"),
    [
        (L4, 1, "L4 us-central1-a"),
        (replace(L4, gpu_count=2), 1, "2 x L4 us-central1-a"),
        (replace(L4, gpu_count=8), 4, "4 nodes of 8 x L4 us-central1-a"),
        (an_offer(machine="e2-standard-4", place="z"), 1, "e2-standard-4 z"),
        (an_offer(machine="this machine", place="this machine"), 1, "this machine"),
        (an_offer(machine="here", place="here"), 2, "2 nodes of one machine here"),
    ],
)
def test_a_place_is_told_with_its_gpus(offer: Any, nodes: int, told: str) -> None:
    assert place_text(offer, nodes=nodes) == told


# ── how much is left ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pace", "minutes"),
    [
        (None, None),
        (a_pace(0.0, 0.5, 10), 10),
        (a_pace(0.5, 0.75, 10), 10),  # from a checkpoint: only what it did itself counts
        (a_pace(0.0, 0.05, 10), None),  # 5 % say nothing yet
        (a_pace(0.0, 0.5, 1), None),  # nor does a minute
        (a_pace(0.0, 1.0, 10), None),
        (a_pace(0.0, 0.051, 60 * 24 * 200), None),  # years: no forecast
    ],
)
def test_the_rest_is_foretold_by_what_was_done(pace: Pace | None, minutes: int | None) -> None:
    found = remaining(pace)
    assert (found and round(found / timedelta(minutes=1))) == minutes


def test_the_limits_end_it_when_its_pace_is_too_slow_or_not_known() -> None:
    run, now = training(), NOON + timedelta(minutes=30)
    assert time_left(run, Feed(), now) == Left(time=timedelta(minutes=90), at_most=True)
    slow = Feed(pace=a_pace(0.0, 0.1, 30))
    assert time_left(run, slow, now) == Left(time=timedelta(minutes=90), at_most=True)
    fast = Feed(pace=a_pace(0.0, 0.5, 30))
    assert time_left(run, fast, now) == Left(time=timedelta(minutes=30), at_most=False)
    late = time_left(run, fast, NOON + timedelta(minutes=70))
    assert late == Left(time=timedelta(0), at_most=False)
    assert time_left(a_run(State.QUEUED), fast, now) is None
    assert time_left(replace(run, spec=None, attempts=()), Feed(), now) is None


def test_money_may_end_it_first() -> None:
    rich = an_attempt(offer=replace(L4, usd_per_hour=Decimal(10)), started_at=NOON)
    assert ends_by(training(attempts=(rich,)), NOON) == NOON + timedelta(minutes=30)
    cheap = an_attempt(offer=replace(L4, usd_per_hour=Decimal("1e-9")), started_at=NOON)
    assert ends_by(training(attempts=(cheap,)), NOON) == NOON + timedelta(hours=2)


def test_policy_and_approval_lower_a_limit_and_people_lengthen_it() -> None:
    approval = Approval(
        by="ada",
        by_id=1,
        at=NOON,
        commit_sha="b" * 40,
        spec_sha256="",
        image=None,
        cap_usd=Decimal(2),
    )
    more = Extension(key="k", by="ada", at=NOON, more=timedelta(minutes=30))
    grant = Grant(max_cost_usd=Decimal(3), max_duration=timedelta(hours=1))
    run = training(grant=grant, approval=approval, extensions=(more,))
    assert (most_usd(run), longest(run)) == (Decimal(2), timedelta(minutes=90))
    assert most_usd(replace(run, approval=None)) == Decimal(3)
    assert (most_usd(a_run()), longest(a_run(spec=None))) == (None, None)


def test_the_cost_in_the_end_is_reckoned_from_the_newest_word_not_from_the_clock() -> None:
    feed = Feed(pace=a_pace(0.0, 0.5, 60))
    assert expected_usd(training(), feed) == Decimal("1.40")
    assert expected_usd(training(), Feed()) is None
    assert expected_usd(training(state=State.COLLECTING), feed) is None


@pytest.mark.parametrize(
    ("left", "told"),
    [(30, "1 min"), (90, "1 min"), (5399, "89 min"), (5400, "1 h"), (172_800, "2 days")],
)
def test_time_is_told_as_roughly_as_it_is_known(left: int, told: str) -> None:
    feed = Feed(pace=Pace(first_at=NOON, first=0, newest_at=NOON + seconds(left), newest=0.5))
    run = training(spec=a_spec(resources=Resources(max_duration=timedelta(days=30))))
    if left > 60:
        assert title(run, feed, NOON + seconds(left)).endswith(f" · {told} left")
    else:
        assert title(run, Feed(), NOON + timedelta(days=30)).endswith(" · at most 1 min left")
