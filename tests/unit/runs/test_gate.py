"""Gates: what metrics must reach for a run to succeed."""

from __future__ import annotations

import pytest

from cynthus.grammar import gate
from cynthus.wire import AgentState
from tests.builders import (
    NOON,
    OUTPUT,
    a_run,
    a_spec,
    an_agent,
    an_attempt,
    an_exit,
    of_newest,
    seconds,
)
from webhook_server.runs.decide import decide
from webhook_server.runs.gate import failure_text, judge, table
from webhook_server.runs.model import Cause, Outcome, Run, State, deserves_release
from webhook_server.runs.observations import GateSeen

BASE = {"accuracy": 0.9, "loss": 0.4, "zero": 0.0}


def judged(text: str, metrics: dict[str, float], base: dict[str, float] | None = BASE):
    return judge((gate(text),), GateSeen(metrics=metrics, baseline=base)).lines[0]


@pytest.mark.parametrize(
    ("text", "found", "passed", "wanted"),
    [
        ("accuracy >= 0.9", 0.9, True, 0.9),
        ("accuracy > 0.9", 0.9, False, 0.9),
        ("accuracy >= baseline - 0.01", 0.89, True, 0.89),
        ("accuracy >= baseline - 0.01", 0.8899, False, 0.89),
        ("accuracy <= baseline + 0.1", 1.0, True, 1.0),
        ("accuracy == baseline", 0.9, True, 0.9),
        ("accuracy < baseline.loss * 3", 1.2, False, 1.2),
        ("accuracy < baseline.loss * 3", 1.1, True, 1.2),
        ("accuracy >= baseline.zero * 2", 0.0, True, 0.0),
        ("accuracy > -1", -0.5, True, -1.0),
        ("accuracy < 1e-3", 0.0009, True, 0.001),
    ],
)
def test_a_gate_compares_as_people_calculate(
    text: str, found: float, passed: bool, wanted: float
) -> None:
    line = judged(text, {"accuracy": found})
    assert (line.passed, line.wanted, line.note) == (passed, wanted, "")


def test_without_a_baseline_a_gate_passes_and_says_so() -> None:
    line = judged("accuracy >= baseline", {"accuracy": 0.1}, None)
    assert (line.passed, line.wanted) == (True, None)
    assert line.note == "there is no release of the default branch yet"
    line = judged("f1 >= baseline", {"f1": 0.1})
    assert (line.passed, line.note) == (True, "the baseline has no f1")


@pytest.mark.parametrize(
    ("metrics", "note"),
    [
        ({}, "the run told no such metric"),
        ({"accuracy": float("nan")}, "is no finite number"),
        ({"accuracy": float("inf")}, "is no finite number"),
    ],
)
def test_what_was_not_measured_is_not_met(metrics: dict[str, float], note: str) -> None:
    line = judged("accuracy >= 0.1", metrics)
    assert (line.passed, line.found, line.note) == (False, None, note)


def test_a_missing_metric_is_not_met_even_without_a_baseline() -> None:
    assert not judged("accuracy >= baseline", {}, None).passed


def test_a_failure_names_the_metric_what_was_found_and_what_was_wanted() -> None:
    gates = (gate("accuracy >= baseline - 0.01"), gate("loss < 0.5"), gate("f1 > 0"))
    seen = GateSeen(metrics={"accuracy": 0.8, "loss": 0.4}, baseline=BASE)
    result = judge(gates, seen)
    assert failure_text(result) == (
        "the gate `accuracy >= baseline - 0.01` is not met: found 0.8, wanted at least 0.89"
        " (and 1 more)"
    )
    text = table(result.lines)
    assert "| **not met** | accuracy \\>= baseline \\- 0.01 | 0.8 | at least 0.89 |  |" in text
    assert "| passed | loss \\< 0.5 | 0.4 | below 0.5 |  |" in text
    assert "| **not met** | f1 \\> 0 | — | above 0 | the run told no such metric |" in text
    assert table(()) == ""


# ── in the engine ───────────────────────────────────────────────────────────────────────────────


def collected(seen: GateSeen | None, *, exit_code: int = 0) -> Run:
    """Return the run after its outputs came, with a gate that wants 0.9."""
    attempt = an_attempt(started_at=NOON, exit=an_exit(exit_code))
    run = a_run(
        State.COLLECTING,
        spec=a_spec(gate=(gate("accuracy >= 0.9"),)),
        attempts=(attempt,),
    )
    agent = an_agent(AgentState.DONE, exit=an_exit(exit_code), exit_at=NOON, outputs=(OUTPUT,))
    return decide(run, of_newest(run, agent=agent, gate=seen), NOON + seconds(5)).run


def test_a_run_that_misses_its_gate_fails_keeps_its_outputs_and_gets_no_release() -> None:
    run = collected(GateSeen(metrics={"accuracy": 0.5}, baseline=BASE, baseline_run="base"))
    assert (run.state, run.outcome, run.reason.cause) == (
        State.RELEASING,
        Outcome.FAILED,
        Cause.GATE,
    )
    assert "accuracy" in run.reason.text
    assert (run.outputs, run.baseline_run) == ((OUTPUT,), "base")
    assert not deserves_release(run)
    assert run.attempts[0].lost is False


def test_a_run_that_meets_its_gate_succeeds() -> None:
    run = collected(GateSeen(metrics={"accuracy": 0.95}, baseline=None))
    assert run.outcome is Outcome.SUCCEEDED
    assert [line.passed for line in run.gate_lines] == [True]
    assert deserves_release(run)


def test_nothing_is_passed_that_nobody_could_look_at() -> None:
    assert collected(None).reason.cause is Cause.GATE


def test_a_command_that_failed_is_not_judged() -> None:
    run = collected(GateSeen(metrics={"accuracy": 0.95}, baseline=None), exit_code=3)
    assert (run.reason.cause, run.gate_lines) == (Cause.EXIT, ())
