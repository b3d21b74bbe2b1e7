"""Why a run waits or ended is told with what helps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.spec import Resources
from cynthus.wire import Exit
from tests.builders import NOON, a_lost, a_refused, a_run, a_spec, an_attempt, an_exit
from webhook_server.runs.log_tail import tail
from webhook_server.runs.model import Cause, Hold, Outcome, Reason, Run, State
from webhook_server.runs.why import Step, exit_hint, explanation

LATER = NOON + timedelta(minutes=3)


def ended(cause: Cause, text: str, **changes: Any) -> Run:
    given = {"outcome": Outcome.FAILED, "reason": Reason(cause=cause, text=text)}
    return a_run(State.FINISHED, **(given | changes))


def told(run: Run, *steps: Step) -> str:
    return explanation(run, steps, LATER)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Exit(code=137), "mostly for want of memory"),
        (Exit(code=None, signal=9), "mostly for want of memory"),
        (Exit(code=1, out_of_memory=True), "more memory than there is"),
        (Exit(code=127), "not found: is it in the image"),
        (Exit(code=None, signal=11), "SIGSEGV"),
        (Exit(code=None, signal=64), "It ended by signal 64."),
        (Exit(code=None, error="no such file <b>"), "never started: no such file \\<b\\>"),
        (Exit(code=42), ""),
    ],
)
def test_exits_are_explained(found: Exit, words: str) -> None:
    assert words in exit_hint(found)
    assert bool(exit_hint(found)) is bool(words)


def test_a_failed_command_is_explained_by_its_exit() -> None:
    attempts = (an_attempt(exit=an_exit(137)),)
    text = told(ended(Cause.EXIT, "exit code 137", attempts=attempts))
    assert text.startswith("` digits #1 ` ended 3m00s ago, **failed**: exit code 137")
    assert "Ask for more `resources/memory`" in text


def test_money_is_told_with_its_amount_and_remedy() -> None:
    run = ended(
        Cause.MAX_COST,
        "5 USD are spent",
        outcome=Outcome.OVER_BUDGET,
        cost_usd=Decimal("4.98"),
        spec=a_spec(resources=Resources(max_cost_usd=Decimal(5))),
    )
    assert "Raise `resources/max_cost`" in told(run)
    assert "It had cost $4.98 of $5.00." in told(run)


def test_a_hold_says_who_may_approve_and_up_to_what() -> None:
    hold = Hold(reasons=("it may cost $9",), cap_usd=Decimal(9), who="maintain or admin; or @bob")
    text = told(a_run(State.QUEUED, hold=hold))
    assert "waits for a person: it may cost \\$9" in text
    assert "maintain or admin; or @\u200bbob may approve it, for $9.00 at most" in text


def test_a_wait_names_who_refused_and_when_it_is_asked_again() -> None:
    run = a_run(State.QUEUED, attempts=(a_refused(1),), not_before=LATER + timedelta(seconds=30))
    text = told(run)
    assert "asked again in 30s (12:03:30 UTC)" in text
    assert "- attempt 1 on small in here ended: none" in text
    assert "Nothing is ordered before its image is there" in told(a_run(State.BUILDING))


def test_lost_attempts_tell_where_and_how_much_was_lost() -> None:
    lost = a_lost(1, started_at=NOON, ended_at=NOON + timedelta(minutes=2))
    taken = replace(lost, reason=Reason(cause=Cause.PREEMPTED, text="taken back"))
    text = told(ended(Cause.PREEMPTED, "taken back", attempts=(taken,)))
    assert "- attempt 1 on small in here ended after 2m00s of work: taken back" in text
    assert "a retry with on-demand ones avoids it" in text


def test_the_course_is_folded_and_holds_the_newest_steps() -> None:
    steps = [Step(at=NOON, state=f"s{n}", reason="</details> @all") for n in range(12)]
    text = told(a_run(State.RUNNING), *steps)
    assert "<details><summary>Its course (UTC)</summary>" in text
    assert "s11: \\</details\\> @\u200ball" in text
    assert "s3:" not in text
    assert "s4:" in text


def test_a_success_needs_no_remedy() -> None:
    run = ended(Cause.EXIT, "exit code 0", outcome=Outcome.SUCCEEDED, attempts=())
    assert told(run) == "` digits #1 ` ended 3m00s ago, **succeeded**: exit code 0"


# ── the end of a log ────────────────────────────────────────────────────────────────────────────


def test_the_tail_joins_chunks_and_keeps_the_last_lines() -> None:
    chunks = ("one\ntw", "o\nthr", "ee\n", "four")
    assert tail(chunks, last=2, limit_bytes=1000) == ("three", "four")
    assert tail(chunks, last=9, grep="t", limit_bytes=1000) == ("two", "three")
    assert tail((), last=9, limit_bytes=1000) == ()


def test_the_tail_counts_bytes_and_cuts_lines_that_never_end() -> None:
    lines = tail(("é" * 40 + "\n" for _ in range(100)), last=100, limit_bytes=300)
    assert len(lines) == 3
    endless = tail(("x" * 10_000 for _ in range(1000)), last=5, limit_bytes=18_000)
    assert [len(line) for line in endless] == [2_000]
