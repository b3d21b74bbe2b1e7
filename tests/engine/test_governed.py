"""Whole lives of runs under a repository's policy: held, approved, in turn, extended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.repository_policy import ApprovalLine, Limits, RepositoryPolicy
from cynthus.spec import Resources
from cynthus.wire import AgentState
from tests.builders import a_spec, an_exit, seconds
from tests.engine.test_money import with_budgets
from tests.engine.world import RUN, World
from webhook_server.runs.model import Cause, Extension, Outcome, State

OTHER = "arun00000002"
HOUR = timedelta(hours=1)
BRIEF = timedelta(minutes=4)
#: With its boot, upload and margins it may come to $8.60.
SPEC = a_spec(resources=Resources(max_duration=BRIEF), outputs=())
ASKS = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(5)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def start(world: World, run_id: str = RUN) -> str:
    world.step()
    name = world.enrol(run_id)
    world.step()
    world.beat(name)
    return name


def test_a_held_run_orders_nothing_until_somebody_approves_it(world: World) -> None:
    world.govern(ASKS)
    world.submit(spec=SPEC)
    world.step()
    assert world.run().hold is not None
    world.wait(timedelta(minutes=5))
    assert world.provider.created == []
    assert world.runs.next_due(world.now) == world.now - timedelta(minutes=5) + HOUR
    world.approve()
    name = start(world)
    world.finish_work(name, an_exit(0))
    world.step()
    run = world.run()
    assert run.outcome is Outcome.SUCCEEDED
    assert run.approval is not None
    assert run.approval.by == "ada"


def test_a_held_run_outlives_the_server_and_can_be_cancelled(world: World) -> None:
    world.govern(ASKS)
    world.submit(spec=SPEC)
    world.step()
    world.restart()
    world.runs.cancel(RUN, "ada", world.now)
    world.step()
    assert (world.state(), world.run().outcome) == (State.FINISHED, Outcome.CANCELLED)


def test_a_policy_that_cannot_be_read_lets_nothing_start_until_it_can(world: World) -> None:
    world.govern(RepositoryPolicy())
    world.away = True
    world.submit(spec=SPEC)
    world.wait(timedelta(minutes=5))
    assert world.provider.created == []
    assert world.run().reason.cause is Cause.POLICY
    world.away = False
    world.wait(timedelta(minutes=1, seconds=5))
    assert world.state() is State.PROVISIONING


@pytest.mark.case("R13")
def test_runs_of_a_repository_take_turns(world: World) -> None:
    world.govern(RepositoryPolicy(limits=Limits(live_runs=1)))
    world.submit(spec=SPEC)
    world.submit(OTHER, spec=SPEC)
    first = start(world)
    assert len(world.provider.created) == 1
    assert world.state(OTHER) is State.QUEUED
    world.finish_work(first, an_exit(0))
    world.wait(seconds(90))
    assert world.state(RUN) is State.FINISHED
    assert world.state(OTHER) is State.PROVISIONING


def test_the_smaller_of_both_monthly_budgets_counts(world: World) -> None:
    with_budgets(world, "1000")
    world.govern(RepositoryPolicy(limits=Limits(monthly_budget_usd=Decimal("8.00"))))
    world.submit(spec=SPEC)
    world.step()
    run = world.run()
    assert (run.outcome, run.reason.cause) == (Outcome.OVER_BUDGET, Cause.BUDGET)
    assert "$8.00 left of $8.00" in run.reason.text
    assert "`limits/monthly_budget` in .github/cynthus-policy.yml" in run.reason.text


def test_an_extension_reaches_the_agent_and_moves_the_stop(world: World) -> None:
    world.govern(RepositoryPolicy(limits=Limits(extend=HOUR)))
    world.submit(spec=SPEC)
    name = start(world)
    wish = Extension(key="comment/1/0", by="ada", at=world.now, more=BRIEF / 2)
    assert world.runs.extend(RUN, wish)
    assert world.runs.extend(RUN, wish), "a repeat counts once"
    world.step()
    assert world.beat(name).deadline_s == (1.5 * BRIEF).total_seconds()
    world.wait(1.25 * BRIEF, beats=True)
    assert world.state() is State.RUNNING
    assert world.beat(name).stop is None
    world.wait(BRIEF / 4, beats=True)
    assert world.beat(name).stop is not None
    world.finish_work(name, an_exit(143, stopped=True))
    world.wait(seconds(10))
    run = world.run()
    assert (run.outcome, run.reason.cause) == (Outcome.TIMED_OUT, Cause.MAX_DURATION)


def test_a_replacement_runs_on_under_the_same_approval(world: World) -> None:
    world.govern(ASKS)
    world.submit(spec=SPEC)
    world.step()
    world.approve()
    name = start(world)
    world.wait(BRIEF / 2, beats=True)
    world.beat(name, AgentState.DONE, exit=replace(an_exit(143), stopped=True), preempted=True)
    world.wait(seconds(20))
    run = world.run()
    assert len(run.attempts) == 2
    assert (run.hold, run.state) == (None, State.PROVISIONING)
