"""Money through the real loop and stores: budgets, races for the last dollars, stops in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.spec import Resources
from cynthus.wire import AgentState
from tests.builders import a_spec, an_exit, seconds
from tests.engine.world import RUN, World
from webhook_server.runs.budget import BudgetLimits
from webhook_server.runs.limits import price
from webhook_server.runs.model import Cause, Outcome, State
from webhook_server.runs.policy import CLOUD
from webhook_server.stores.budget_store import BudgetStore

RATE = Decimal("3.60")  # what the fake provider asks for an hour
OTHER = "arun00000002"


def with_budgets(world: World, repository: str | None, owner: str | None = None) -> BudgetStore:
    limits = BudgetLimits(
        repository_usd=Decimal(repository) if repository else None,
        owner_usd=Decimal(owner) if owner else None,
    )
    store = BudgetStore(world.db, limits)
    eyes = replace(world.reconciler.eyes, budgets=store.of_run)
    world.reconciler = replace(world.reconciler, eyes=eyes)
    return store


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def costing(usd: str) -> object:
    return a_spec(resources=Resources(max_cost_usd=Decimal(usd)), outputs=())


def ending(world: World, run_id: str = RUN) -> tuple[State, Outcome | None, Cause]:
    run = world.run(run_id)
    return run.state, run.outcome, run.reason.cause


def test_a_run_beyond_the_budget_is_refused_at_once_and_orders_nothing(world: World) -> None:
    with_budgets(world, "4.99")
    world.submit(spec=costing("5"))
    world.step()
    assert ending(world) == (State.FINISHED, Outcome.OVER_BUDGET, Cause.BUDGET)
    assert "has $4.99 left of $4.99" in world.run().reason.text
    assert world.provider.created == []


def test_a_commitment_is_given_back_when_its_run_ends(world: World) -> None:
    store = with_budgets(world, "5")
    world.submit(spec=costing("5"))
    world.step()
    [seen] = store.of_repository(7, world.now)
    assert seen.left_usd == 0
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(1))
    world.wait(timedelta(minutes=1))
    assert world.state() is State.FINISHED
    [seen] = store.of_repository(7, world.now)
    assert seen.booked_usd == world.run().cost_usd < 1
    world.submit(OTHER, spec=costing("4.90"))
    world.step()
    assert world.state(OTHER) is State.PROVISIONING


def test_of_two_runs_that_race_for_the_last_dollars_one_is_refused(world: World) -> None:
    with_budgets(world, None, owner="8")
    for run_id in (RUN, OTHER):
        world.submit(run_id, spec=costing("5"))
    for claim in world.runs.claim(limit=2, lease=timedelta(minutes=1), now=world.now):
        world.reconciler._pass(claim)  # the image has come
    claims = world.runs.claim(limit=2, lease=timedelta(minutes=1), now=world.now)
    # Both have looked before either has saved.
    decisions = [world.reconciler._decision(claim, world.now) for claim in claims]
    assert [decision.run.state for decision in decisions] == [State.PROVISIONING] * 2
    saved = [world.runs.save(c, d, world.now) for c, d in zip(claims, decisions, strict=True)]
    assert saved == [True, False]
    world.step()
    states = {run_id: ending(world, run_id)[:2] for run_id in (RUN, OTHER)}
    assert sorted(states.values()) == [
        (State.FINISHED, Outcome.OVER_BUDGET),
        (State.PROVISIONING, None),
    ]
    assert len({claim.run.id for claim in claims}) == 2


def test_a_lost_attempt_is_repeated_only_while_the_budget_pays_for_it(world: World) -> None:
    with_budgets(world, "22")  # two hours' whole life is $17.28 at most, then $15.48
    resources = Resources(max_duration=timedelta(hours=2))
    world.submit(spec=a_spec(resources=resources))
    world.step()
    name = world.enrol()
    world.step()
    world.beat(name)
    world.wait(timedelta(minutes=1), beats=True)
    world.submit(OTHER, spec=costing("5"))  # what the first left of the month
    world.step()
    assert world.state(OTHER) is State.PROVISIONING
    world.provider.instances.pop(name)
    world.wait(timedelta(minutes=1))
    assert ending(world) == (State.FINISHED, Outcome.OVER_BUDGET, Cause.BUDGET)


@pytest.mark.parametrize("obeys", [True, False])
@pytest.mark.parametrize("deletion", [0, 90])
def test_max_cost_is_never_exceeded_by_more_than_a_heartbeat(
    world: World, obeys: bool, deletion: int
) -> None:
    world.submit(spec=costing("0.60"))
    world.step()
    name = world.enrol()
    world.step()
    told_at = gone_at = None
    while world.state() is not State.FINISHED:
        world.now += CLOUD.heartbeat
        if gone_at is None:
            stop = world.beat(name).stop
            if stop and told_at is None:
                told_at = world.now
            if stop and obeys:
                world.finish_work(name, an_exit(143, stopped=True))
        if world.state() is State.RELEASING and deletion and gone_at is None:
            gone_at = world.now + seconds(deletion)
        if gone_at is not None and world.now < gone_at:
            world.provider.appear(name)  # it is deleted, and lives on for a while
        world.step()
    assert ending(world) == (State.FINISHED, Outcome.OVER_BUDGET, Cause.MAX_COST)
    assert told_at is not None
    assert Decimal("0.30") < world.run().cost_usd
    assert world.run().cost_usd <= Decimal("0.60") + price(RATE, CLOUD.heartbeat)


def test_a_free_machine_needs_no_budget(world: World) -> None:
    world.provider.lent = [replace(world.provider.lent[0], usd_per_hour=Decimal(0))]
    with_budgets(world, "0", owner="0")
    world.submit()
    world.step()
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(0))
    world.wait(seconds(30))
    assert (world.run().outcome, world.run().cost_usd) == (Outcome.SUCCEEDED, 0)
    assert world.beat(name, AgentState.DONE).closed
