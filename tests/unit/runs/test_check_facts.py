"""The parts of a check run's summary: hold, what can be asked, origin, phases, use, cost."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from cynthus.spec import Resources
from tests.builders import NOON, a_run, a_spec, an_attempt, an_offer, seconds
from webhook_server.runs import check_facts
from webhook_server.runs.feed_facts import Feed, Headway, Moment
from webhook_server.runs.model import Approval, Extension, Hold, Origin, State, SweepPart
from webhook_server.runs.usage import UsageMeter

HOLD = Hold(
    reasons=("it may cost up to $9.00, more than $5.00",),
    cap_usd=Decimal(9),
    who="maintain or admin; or ada",
)


def plain(text: str) -> str:
    """Take Markdown's escapes away."""
    return text.replace("\\", "")


def test_a_hold_says_why_who_and_what_to_write() -> None:
    text = plain(check_facts.hold(a_run(State.QUEUED, hold=HOLD, pull_request=7)))
    assert text.splitlines()[1] == "- it may cost up to $9.00, more than $5.00"
    assert (
        "maintain or admin; or ada may approve it: press **Approve**, or comment"
        " ` /cynthus approve bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb `."
    ) in text
    assert "cost up to $9.00, all attempts together" in text
    assert not re.search(r"(?m)^\s*/cynthus", text), "an ask begins a line"


def test_without_a_pull_request_there_is_the_button_alone() -> None:
    text = check_facts.hold(a_run(State.QUEUED, hold=HOLD))
    assert "press **Approve**. " in text
    assert "comment" not in text


def test_whoever_waits_for_nobody_says_nothing_of_it() -> None:
    assert check_facts.hold(a_run(State.QUEUED)) == ""
    assert check_facts.hold(a_run(State.RUNNING, hold=HOLD)) == ""


@pytest.mark.parametrize(
    ("state", "pull_request", "told"),
    [
        (State.RUNNING, 7, True),
        (State.QUEUED, 7, True),
        (State.RUNNING, None, False),
        (State.FINISHED, 7, False),
    ],
)
def test_a_live_run_says_what_to_comment_since_its_buttons_are_not_shown_yet(
    state: State, pull_request: int | None, told: bool
) -> None:
    text = check_facts.asking(a_run(state, pull_request=pull_request))
    assert (
        text
        == (
            "To act on it, comment ` /cynthus cancel arun00000001 ` or ` /cynthus extend 1h ` or"
            " ` /cynthus logs arun00000001 `."
        )
        * told
    )
    assert check_facts.asking(a_run(State.QUEUED, pull_request=7, hold=HOLD)) == ""


def test_the_origin_is_told_whole() -> None:
    approval = Approval(
        by="ada",
        by_id=1,
        at=NOON,
        commit_sha="b" * 40,
        spec_sha256="",
        image=None,
        cap_usd=Decimal(2),
    )
    run = a_run(
        origin=Origin(
            asked_by="bob",
            overrides=(("env.LR", "1e-4"),),
            sweep=SweepPart(id="s", index=0, count=3),
            reproduces="arun00000009",
            retries="arun00000008",
            fork=True,
        ),
        approval=approval,
        extensions=(Extension(key="k", by="eve", at=NOON, more=timedelta(hours=1)),),
    )
    lines = plain(check_facts.origin(run, a_run(number=3))).splitlines()[1:]
    assert lines == [
        "- asked for by: bob",
        "- of a sweep: run 1 of 3",
        "- reproduces: digits #3",
        "- runs again: arun00000008",
        "- a fork's commit: no secrets, caches of its own, lower limits",
        "- instead of the file's value: ` env.LR=1e-4 `",
        "- approved by: ada, 2026-01-31 12:00 UTC, up to $2.00",
        "- more time: 1h00m by eve, 2026-01-31 12:00 UTC",
    ]
    assert check_facts.origin(a_run(), None) == ""


def test_phases_are_bars_as_long_as_they_took() -> None:
    moments = [(0, "queued"), (15, "provisioning"), (75, "running"), (3675, "phase @eval\n```")]
    feed = Feed(timeline=tuple(Moment(at=NOON + seconds(at), text=text) for at, text in moments))
    assert check_facts.timeline(feed).splitlines() == [
        "### Timeline (UTC)",
        "````text",
        "12:00:00  ▏                            15s  queued",
        "12:00:15  ▍                          1m00s  provisioning",
        "12:01:15  ████████████████████████   1h00m  running",
        "13:01:15                                    phase @\u200beval ```",
        "````",
    ]
    assert check_facts.timeline(Feed()) == ""


def test_what_lasted_no_second_is_left_out_of_the_timeline() -> None:
    told = (("queued", 0), ("provisioning", 0), ("queued", 0), ("queued", 30), ("running", 30))
    moments = tuple(Moment(at=NOON + seconds(at), text=text) for text, at in told)
    lines = check_facts.timeline(Feed(timeline=moments)).splitlines()[2:-1]
    assert [line.split()[-1] for line in lines] == ["queued", "running"]
    assert lines[0].startswith("12:00:00")
    assert " 30s " in lines[0]


def test_a_clock_that_went_back_draws_no_bar() -> None:
    feed = Feed(timeline=(Moment(at=NOON, text="a"), Moment(at=NOON - seconds(5), text="b")))
    assert "12:00:00                                0s  a" in check_facts.timeline(feed)


def test_use_is_a_table_from_nothing_to_all() -> None:
    meter = UsageMeter()
    for busy in (0.0, 100.0):
        meter.add({"cpu_pct": 400.0, "gpus": [{"utilization_pct": busy}]})
    run = a_run(attempts=(an_attempt(offer=an_offer(cpu=4)),))
    assert check_facts.use(run, Feed(usage=meter.usage())).splitlines()[3:] == [
        "| GPU 0 busy | 50 % | 100 % | ▁█ |",
        "| CPU cores | 4.0 | 4.0 of 4 | ██ |",
    ]
    assert check_facts.use(run, Feed()) == ""


def test_cost_is_told_with_its_limit_its_rate_and_what_it_will_come_to() -> None:
    spec = a_spec(resources=Resources(max_cost_usd=Decimal(9)))
    headway = Headway(first_at=NOON, first=0.0, newest_at=NOON + timedelta(minutes=30), newest=0.5)
    run = a_run(
        spec=spec,
        attempts=(an_attempt(started_at=NOON),),
        cost_usd=Decimal("1.8"),
        extensions=(Extension(key="k", by="eve", at=NOON, more=timedelta(hours=1)),),
    )
    assert check_facts.cost(run, Feed(headway=headway)) == (
        "cost so far $1.80 of $9.00 · $3.60 an hour"
        " · about $3.60 in the end (30 min left at 12:30 UTC) · at most 1d1h"
    )
    done = replace(run, state=State.FINISHED, extensions=())
    assert check_facts.cost(done, Feed(headway=headway)) == "cost $1.80 of $9.00"
    assert check_facts.cost(a_run(State.QUEUED), Feed()) == ""
