"""Whole lives of runs: the real loop and stores, a fake provider, a clock that the test steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cynthus.spec import Retry
from cynthus.wire import AgentState, EventKind
from tests.builders import OUTPUT, a_key, a_spec, an_exit, seconds
from tests.engine.world import RUN, World
from tests.fake_provider import AnswerLost, EffectLate
from webhook_server.perform import perform
from webhook_server.providers.provider import (
    Misconfigured,
    NoCapacity,
    ProviderUnavailable,
    QuotaExceeded,
)
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.commands import CreateInstance
from webhook_server.runs.lending import Order
from webhook_server.runs.model import Cause, Outcome, State
from webhook_server.runs.policy import CLOUD, LOCAL
from webhook_server.stores.writer import DatabaseUnavailable

HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def start(world: World, **changes: Any) -> str:
    world.submit(**changes)
    world.step()
    name = world.enrol()
    world.step()
    world.beat(name)
    return name


def states(world: World, run_id: str = RUN) -> list[object]:
    events = world.events.after(run_id, 0, limit=100, kinds=[EventKind.STATE])
    return [event.body["state"] for event in events]


def ending(world: World, run_id: str = RUN) -> tuple[State, Outcome | None, Cause]:
    run = world.run(run_id)
    return run.state, run.outcome, run.reason.cause


def test_a_run_lives_from_request_to_release_without_waiting_for_any_timer(world: World) -> None:
    world.submit()
    world.step()
    name = world.enrol()
    world.step()
    assert world.state() is State.RUNNING
    world.beat(name, AgentState.UPLOADING, exit=an_exit(0))
    world.step()
    assert world.state() is State.COLLECTING
    world.finish_work(name, an_exit(0), (OUTPUT,))
    world.step()
    world.release()
    world.step()
    assert ending(world) == (State.FINISHED, Outcome.SUCCEEDED, Cause.EXIT)
    assert world.run().release_url == "https://release"
    assert world.provider.instances == {}
    assert states(world) == [
        "building",
        "queued",
        "provisioning",
        "running",
        "collecting",
        "releasing",
        "finished",
    ]
    assert world.now == world.run().created_at  # no time had to pass


def test_a_finished_run_is_never_looked_at_again(world: World) -> None:
    name = start(world, key=a_key(repository_id=0))
    world.finish_work(name, an_exit(1))
    world.step()
    assert world.state() is State.FINISHED
    assert world.runs.next_due(world.now) is None
    assert world.beat(name).closed


@pytest.mark.parametrize("fault", [NoCapacity("zone a"), ProviderUnavailable("no answer")])
def test_capacity_that_comes_later_is_taken(world: World, fault: Exception) -> None:
    world.provider.fail("create", fault, fault)
    world.submit(spec=a_spec(retry=Retry(1)))
    world.wait(timedelta(minutes=2))
    assert world.state() is State.PROVISIONING
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(0))
    world.wait(CLOUD.grace)  # a create that was not answered could still take effect
    assert ending(world) == (State.FINISHED, Outcome.SUCCEEDED, Cause.EXIT)


def test_a_provider_with_nothing_to_lend_is_asked_until_it_has(world: World) -> None:
    offers, world.provider.lent = world.provider.lent, []
    world.provider.fail("offers", ProviderUnavailable("503"), NoCapacity("full"))
    world.submit()
    world.wait(timedelta(minutes=3))
    assert ending(world) == (State.QUEUED, None, Cause.NO_CAPACITY)
    world.provider.lent = offers
    world.wait(timedelta(minutes=1))
    assert world.state() is State.PROVISIONING


@pytest.mark.parametrize("verb", ["offers", "create"])
@pytest.mark.parametrize("fault", [QuotaExceeded("quota L4 is 0"), Misconfigured("no key")])
def test_a_refusal_for_good_fails_the_run_at_once(
    world: World, verb: str, fault: Exception
) -> None:
    world.provider.fail(verb, fault)
    world.submit()
    world.step()
    assert ending(world) == (State.FINISHED, Outcome.FAILED, Cause.REFUSED)
    assert world.run().reason.text == str(fault)


def test_a_spec_that_names_an_unknown_provider_is_told_the_known_ones(world: World) -> None:
    resources = replace(a_spec().resources, provider="moon")
    world.submit(spec=a_spec(resources=resources))
    world.step()
    assert world.run().reason.text == (
        "resources/provider: should be one that this server has (fake), found moon."
        " Change it, or leave it out."
    )


@pytest.mark.case("A5")
def test_a_lost_instance_is_replaced_only_once_it_is_gone(world: World) -> None:
    first = start(world)
    world.provider.fail("get", *[ProviderUnavailable("503")] * 30)
    world.provider.fail("delete", *[ProviderUnavailable("503")] * 4)
    world.wait(timedelta(seconds=125))
    assert ending(world) == (State.RELEASING, None, Cause.SILENT)
    assert [name for _, name in world.provider.created] == [first]
    world.provider.faults.clear()
    world.wait(timedelta(minutes=2))
    assert [name for _, name in world.provider.created] == [first, f"cynthus-{RUN}-2"]
    assert list(world.provider.instances) == [f"cynthus-{RUN}-2"]
    assert world.beat(first).closed


@pytest.mark.case("A5")
def test_an_instance_that_vanishes_is_noticed_within_45_seconds(world: World) -> None:
    first = start(world)
    world.wait(timedelta(minutes=1), beats=True)
    world.seqs.clear()
    world.provider.instances.clear()
    world.wait(seconds(45))
    assert world.run().attempts[0].lost
    assert world.name() == first.removesuffix("1") + "2"


def test_an_agent_that_never_comes_uses_up_the_attempts(world: World) -> None:
    world.submit()
    for _ in range(4):
        world.now += CLOUD.boot_limit
        world.wait(seconds(15))
    assert ending(world) == (State.FINISHED, Outcome.INFRASTRUCTURE, Cause.BOOT)
    assert len(world.run().attempts) == 3
    assert world.provider.instances == {}


def test_a_server_that_was_down_for_an_hour_gives_no_living_run_up(world: World) -> None:
    name = start(world)
    world.now += HOUR
    world.restart()
    world.step()
    assert world.state() is State.RUNNING
    world.beat(name)
    world.wait(timedelta(minutes=5), beats=True)
    assert world.state() is State.RUNNING


@pytest.mark.case("R16")
@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_jumps_gives_no_living_run_up(world: World, hours: int) -> None:
    start(world)
    world.jump(timedelta(hours=hours))
    world.step()
    assert world.state() is State.RUNNING
    world.wait(timedelta(minutes=5), beats=True)
    assert world.state() is State.RUNNING


@pytest.mark.case("R16")
def test_an_agent_that_is_silent_after_the_jump_is_given_up_all_the_same(world: World) -> None:
    start(world)
    world.jump(timedelta(hours=2))
    world.step()
    world.wait(CLOUD.silence_limit + seconds(30))
    assert world.run().attempts[0].lost


@pytest.mark.case("R3")
def test_a_create_whose_answer_was_lost_makes_one_instance(world: World) -> None:
    world.provider.fail("create", AnswerLost())
    world.submit()
    world.wait(seconds(40))
    assert len(world.provider.created) == 1
    assert world.state() is State.PROVISIONING


def test_a_run_whose_order_was_not_answered_ends_soon_once_its_instance_was_seen(
    world: World,
) -> None:
    world.provider.fail("create", AnswerLost())
    name = start(world, key=a_key(repository_id=0))
    world.finish_work(name, an_exit(0))
    world.wait(CLOUD.visible_after)
    assert ending(world) == (State.FINISHED, Outcome.SUCCEEDED, Cause.EXIT)


def test_an_instance_that_appears_after_its_run_was_cancelled_is_deleted(world: World) -> None:
    world.provider.fail("create", EffectLate())
    world.submit()
    world.step()
    world.runs.cancel(RUN, "ann", world.now)
    world.wait(timedelta(minutes=5))
    assert world.state() is State.RELEASING
    world.provider.appear(world.provider.late[0])
    world.wait(CLOUD.grace)
    assert ending(world) == (State.FINISHED, Outcome.CANCELLED, Cause.CANCELLED)
    assert world.provider.instances == {}


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────


def to_queued(world: World) -> None:
    world.provider.lent = []
    world.submit()
    world.step()


def to_provisioning(world: World) -> None:
    world.submit()
    world.step()


def to_running(world: World) -> None:
    start(world)
    world.step()


def to_collecting(world: World) -> None:
    world.beat(start(world), AgentState.UPLOADING, exit=an_exit(3))
    world.step()


def to_releasing(world: World) -> None:
    name = start(world)
    world.provider.fail("delete", *[ProviderUnavailable("503")] * 3)
    world.finish_work(name, an_exit(3))
    world.step()


@pytest.mark.case("A6")
@pytest.mark.parametrize(
    ("reach", "state", "outcome"),
    [
        (lambda world: world.submit(), State.BUILDING, Outcome.CANCELLED),
        (to_queued, State.QUEUED, Outcome.CANCELLED),
        (to_provisioning, State.PROVISIONING, Outcome.CANCELLED),
        (to_running, State.RUNNING, Outcome.CANCELLED),
        (to_collecting, State.COLLECTING, Outcome.FAILED),
        (to_releasing, State.RELEASING, Outcome.FAILED),
    ],
)
def test_a_cancel_ends_the_run_from_every_state(
    world: World, reach: Callable[[World], Any], state: State, outcome: Outcome
) -> None:
    reach(world)
    assert world.state() is state
    assert world.runs.cancel(RUN, "ann", world.now)
    world.step()
    if state is State.RUNNING:
        answer = world.beat(world.name())
        assert answer.stop == "cancelled by ann"
        world.finish_work(world.name(), an_exit(143, stopped=True))
    if state is State.COLLECTING:
        world.finish_work(world.name(), an_exit(3))
    world.wait(timedelta(minutes=2))
    assert (world.state(), world.run().outcome) == (State.FINISHED, outcome)
    assert world.provider.instances == {}
    assert not world.runs.cancel(RUN, "ann", world.now)


def test_an_agent_that_ignores_the_stop_loses_its_instance(world: World) -> None:
    start(world)
    world.runs.cancel(RUN, "ann", world.now)
    world.wait(CLOUD.stop_limit + seconds(10), beats=True)
    assert ending(world) == (State.FINISHED, Outcome.CANCELLED, Cause.CANCELLED)
    assert world.provider.instances == {}


# ── the server's own bad days ───────────────────────────────────────────────────────────────────


@pytest.mark.case("R19")
def test_a_run_that_always_fails_is_parked_and_the_others_go_on(world: World) -> None:
    world.provider.poison.add("poison000000")
    world.submit("poison000000")
    world.submit()
    world.step()
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(0))
    world.step()
    assert world.state() is State.FINISHED
    world.wait(CLOUD.boot_limit + CLOUD.grace + timedelta(minutes=5))
    assert ending(world, "poison000000") == (
        State.FINISHED,
        Outcome.INFRASTRUCTURE,
        Cause.SERVER,
    )
    assert world.provider.instances == {}


@pytest.mark.case("R7")
def test_a_database_that_fails_every_pass_for_an_hour_ends_no_run(world: World) -> None:
    steady = world.reconciler

    def fails(*_: object) -> tuple[BudgetSeen, ...]:
        raise DatabaseUnavailable("the database does not answer. Try again.")

    world.reconciler = replace(steady, eyes=replace(steady.eyes, budgets=fails))
    world.submit()
    world.wait(HOUR)
    assert world.state() is State.QUEUED
    world.reconciler = steady
    world.wait(timedelta(seconds=5))
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(0))
    world.step()
    assert world.state() is State.FINISHED


@pytest.mark.case("R3")
@pytest.mark.parametrize("policy", [CLOUD, LOCAL])
@pytest.mark.parametrize("killed", range(1, 7))
def test_a_server_killed_between_saving_and_performing_loses_nothing(
    tmp_path: Path, killed: int, policy: Any
) -> None:
    world = World(f"sqlite:///{tmp_path}/cynthus.db", {"fake": policy})
    passes = 0

    def turn() -> None:
        """One pass at a time; the `killed`-th saves and then dies before it performs."""
        nonlocal passes
        for claim in world.runs.claim(limit=1, lease=HOUR, now=world.now):
            passes += 1
            if passes != killed:
                world.reconciler._pass(claim)
                continue
            decision = world.reconciler._decision(claim, world.now)
            world.runs.save(claim, decision, world.now)
            world.restart()

    world.submit()
    exited = False
    for _ in range(600):
        turn()
        run = world.run()
        if run.state is State.FINISHED:
            break
        if run.state is State.PROVISIONING and world.name() in world.provider.instances:
            world.enrol()
        elif run.state is State.RUNNING and not exited:
            exited = True
            world.finish_work(world.name(), an_exit(0), (OUTPUT,))
        world.release()
        world.now += seconds(60 if run.state is State.RELEASING else 2)
    assert ending(world) == (State.FINISHED, Outcome.SUCCEEDED, Cause.EXIT)
    assert passes >= killed
    assert states(world).count("finished") == 1
    assert world.provider.instances == {}
    assert len(world.provider.created) == 1
    world.db.close()


@pytest.mark.case("R1")
@pytest.mark.parametrize("killed", range(1, 8))
def test_a_server_killed_between_observing_and_saving_loses_nothing(
    world: World, killed: int
) -> None:
    passes = 0
    world.submit()
    exited = False
    for _ in range(400):
        for claim in world.runs.claim(limit=1, lease=HOUR, now=world.now):
            passes += 1
            if passes == killed:
                world.reconciler._decision(claim, world.now)
                world.restart()  # the claim died with its server
            else:
                world.reconciler._pass(claim)
        run = world.run()
        if run.state is State.FINISHED:
            break
        if run.state is State.PROVISIONING:
            world.enrol()
        elif run.state is State.RUNNING and not exited:
            exited = True
            world.finish_work(world.name(), an_exit(0))
        world.now += seconds(2)
    assert ending(world) == (State.FINISHED, Outcome.SUCCEEDED, Cause.EXIT)
    assert len(world.provider.created) == 1


@pytest.mark.case("A21", "R5", "R4")
def test_a_paused_thread_creates_nothing_for_an_attempt_that_was_given_up(world: World) -> None:
    world.submit()
    world.step()
    world.runs.cancel(RUN, "ann", world.now)
    world.step()
    assert world.provider.instances == {}
    offer, need = world.run().attempts[0].offer, a_spec().resources
    late = Order(
        name=world.name(),
        run_id=RUN,
        attempt=1,
        repository_id=7,
        offer=offer,
        need=need,
        max_life=HOUR,
    )
    assert perform(world.reconciler.hands, CreateInstance(order=late)) is None
    assert world.provider.instances == {}


# ── sweep ───────────────────────────────────────────────────────────────────────────────────────


def sweep_for(world: World, duration: timedelta) -> None:
    end = world.now + duration
    while world.now < end:
        world.now += timedelta(minutes=1)
        world.sweeper.step()


def test_an_instance_that_nobody_knows_is_deleted_after_a_grace(world: World) -> None:
    start(world)
    world.provider.appear("stray")
    sweep_for(world, timedelta(minutes=4))
    assert "stray" in world.provider.instances
    sweep_for(world, timedelta(minutes=3))
    assert list(world.provider.instances) == [world.name()]


def test_an_empty_database_deletes_nothing(world: World) -> None:
    world.provider.appear("stray")
    sweep_for(world, HOUR / 4)
    assert "stray" in world.provider.instances


def test_more_than_a_fifth_of_the_fleet_is_never_deleted_unasked(world: World) -> None:
    start(world)
    for number in range(2):
        world.provider.appear(f"stray-{number}")
    sweep_for(world, HOUR / 4)
    assert len(world.provider.instances) == 3
    del world.provider.instances["stray-0"]
    sweep_for(world, HOUR / 4)
    assert list(world.provider.instances) == [world.name()]


@pytest.mark.case("P12")
def test_a_partial_list_deletes_nothing(world: World) -> None:
    start(world)
    world.provider.appear("stray")
    world.provider.fail("list", *[ProviderUnavailable("page 2 failed")] * 100)
    sweep_for(world, HOUR / 4)
    assert "stray" in world.provider.instances


def test_an_instance_of_a_finished_run_is_deleted(world: World) -> None:
    name = start(world)
    world.finish_work(name, an_exit(1))
    world.step()
    assert world.state() is State.FINISHED
    world.provider.appear(name)
    world.sweeper.step()
    assert world.provider.instances == {}


def test_an_instance_that_refuses_deletion_is_tried_again(world: World) -> None:
    name = start(world)
    world.finish_work(name, an_exit(1))
    world.step()
    world.provider.appear(name)
    world.provider.fail("delete", ProviderUnavailable("503"))
    world.sweeper.step()
    assert name in world.provider.instances
    world.sweeper.step()
    assert name not in world.provider.instances


def test_a_missing_instance_wakes_its_run(world: World) -> None:
    start(world)
    world.step()
    world.provider.instances.clear()
    world.sweeper.step()
    assert world.runs.next_due(world.now) == world.now


# ── two servers, missing parts ──────────────────────────────────────────────────────────────────


@pytest.mark.case("R4")
def test_a_pass_that_lost_its_race_orders_nothing(world: World) -> None:
    world.submit()
    world.step_to_queued()
    [older] = world.runs.claim(limit=1, lease=seconds(1), now=world.now)
    world.now += seconds(2)
    [newer] = world.runs.claim(limit=1, lease=HOUR, now=world.now)
    world.reconciler._pass(older)
    assert world.provider.created == []
    world.reconciler._pass(newer)
    assert len(world.provider.created) == 1


def test_a_server_without_the_runs_provider_waits_for_one_that_has_it(world: World) -> None:
    name = start(world)
    world.finish_work(name, an_exit(1))
    provider = world.providers.pop("fake")
    world.wait(timedelta(minutes=1))
    assert world.state() is State.RELEASING
    world.providers["fake"] = provider
    world.wait(timedelta(minutes=2))
    assert world.state() is State.FINISHED


def test_an_order_without_its_provider_is_in_doubt(world: World) -> None:
    world.submit()
    world.step_to_queued()
    [claim] = world.runs.claim(limit=1, lease=HOUR, now=world.now)
    decision = world.reconciler._decision(claim, world.now)
    world.runs.save(claim, decision, world.now)
    provider = world.providers.pop("fake")
    assert perform(world.reconciler.hands, decision.commands[0]) is not None
    world.providers["fake"] = provider
    world.wait(seconds(20))
    assert len(world.provider.created) == 1
