"""Lives of runs whose spec has gates: judged once the command has ended well, by what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.grammar import gate
from cynthus.spec import Spec
from cynthus.wire import AgentEvent, AgentState, EventKind, Exit
from tests.builders import OUTPUT, a_spec, an_exit
from tests.engine.world import World
from webhook_server.runs.model import Cause, Outcome, Run, State

SPEC = a_spec(gate=(gate("accuracy >= baseline - 0.01"), gate("loss < 0.5")))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def a_life(
    world: World, run_id: str, *, spec: Spec = SPEC, exit_: Exit | None = None, **metrics: float
) -> Run:
    """Let a run tell these metrics, end, and be published."""
    world.submit(run_id, spec=spec, ref="refs/heads/main")
    world.step()
    name = world.enrol(run_id)
    world.step()
    events = tuple(
        AgentEvent(
            at=world.now, kind=EventKind.METRIC, body={"name": metric, "step": 1, "value": value}
        )
        for metric, value in metrics.items()
    )
    world.beat(name, AgentState.UPLOADING, exit=exit_ or an_exit(0), events=events)
    world.step()
    world.finish_work(name, exit_ or an_exit(0), (OUTPUT,))
    world.step()
    world.release()
    world.step()
    return world.run(run_id)


def test_the_first_result_becomes_the_baseline_and_a_worse_one_fails(world: World) -> None:
    first = a_life(world, "arun00000001", accuracy=0.90, loss=0.4)
    assert (first.outcome, first.baseline_run) == (Outcome.SUCCEEDED, None)
    assert [line.passed for line in first.gate_lines] == [True, True]
    assert first.release_url is not None
    worse = a_life(world, "arun00000002", accuracy=0.88, loss=0.4)
    assert (worse.state, worse.outcome, worse.reason.cause) == (
        State.FINISHED,
        Outcome.FAILED,
        Cause.GATE,
    )
    assert worse.reason.text == (
        "the gate `accuracy >= baseline - 0.01` is not met: found 0.88, wanted at least 0.89"
    )
    assert (worse.release_url, worse.outputs) == (None, (OUTPUT,))
    good = a_life(world, "arun00000003", accuracy=0.89, loss=0.4)
    assert (good.outcome, good.baseline_run) == (Outcome.SUCCEEDED, "arun00000001")
    # The newest release counts from here on: 0.89, not 0.90.
    again = a_life(world, "arun00000004", accuracy=0.88, loss=0.4)
    assert (again.outcome, again.baseline_run) == (Outcome.SUCCEEDED, "arun00000003")
    assert world.provider.instances == {}


def test_a_metric_that_was_not_told_is_not_met(world: World) -> None:
    run = a_life(world, "arun00000001", accuracy=0.9)
    assert run.reason.cause is Cause.GATE
    assert "`loss < 0.5` is not met: the run told no such metric" in run.reason.text


def test_a_command_that_fails_is_not_judged(world: World) -> None:
    run = a_life(world, "arun00000001", exit_=an_exit(3), accuracy=0.1, loss=9.0)
    assert (run.reason.cause, run.gate_lines) == (Cause.EXIT, ())


def test_a_gate_that_fails_is_no_reason_for_another_attempt(world: World) -> None:
    run = a_life(world, "arun00000001", loss=0.6, accuracy=0.9)
    assert len(run.attempts) == 1
    assert run.finished_at is not None
