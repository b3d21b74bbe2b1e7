"""Instances kept warm: for one repository's next run only, until a certain end, at a known cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cynthus.spec import GpuNeed, Resources
from cynthus.wire import AgentState
from tests.builders import a_key, a_spec, an_exit, an_offer, seconds, some_facts
from tests.engine.world import RUN, World
from tests.fake_provider import AnswerLost
from webhook_server.audit import Standing, compare
from webhook_server.providers.provider import ProviderUnavailable
from webhook_server.runs.approval import effective_digest
from webhook_server.runs.budget import BudgetLimits, BudgetScope
from webhook_server.runs.model import Approval, Cause, Origin, Outcome, State
from webhook_server.runs.observations import Kept
from webhook_server.runs.warm import idle_usd
from webhook_server.stores.budget_store import BudgetStore

NEXT = "arun00000002"
WARM = a_spec(keep_warm=seconds(600), outputs=(), resources=Resources(max_duration=seconds(3600)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def worked(world: World, run_id: str = RUN, exit_code: int = 0, **changes: Any) -> str:
    """Let a run live to its command's end; return the name it worked under."""
    world.submit(run_id, **({"spec": WARM, "wants_release": False} | changes))
    world.step()
    name = world.enrol(run_id)
    world.step()
    world.beat(name)
    world.finish_work(name, an_exit(exit_code))
    world.step()
    world.step()
    return name


def kept(world: World) -> Kept:
    [one] = world.warm.newest()
    return one


def test_the_instance_waits_and_its_run_is_finished_and_paid(world: World) -> None:
    name = worked(world)
    run = world.run()
    assert (run.state, run.outcome) == (State.FINISHED, Outcome.SUCCEEDED)
    assert list(world.provider.instances) == [name]
    assert run.attempt is not None
    assert run.attempt.kept_until == kept(world).until == world.now + seconds(600)
    paid = run.cost_usd
    world.now += seconds(100)
    world.step()
    assert world.run().cost_usd == paid
    assert idle_usd(kept(world), world.now) == Decimal("0.10")


@pytest.mark.parametrize(("works_s", "waits"), [(5, False), (3000, True)])
def test_an_instance_whose_order_may_come_twice_waits_for_nobody(
    world: World, works_s: int, waits: bool
) -> None:
    # Its record would be closed by the first "not found", and nobody would count the second one.
    world.provider.fail("create", AnswerLost())
    world.submit(RUN, spec=WARM, wants_release=False)
    world.step()
    name = world.enrol(RUN)
    world.beat(name)
    world.now += seconds(works_s)
    world.beat(name)
    world.finish_work(name, an_exit(0))
    world.step()
    world.step()
    assert world.run().outcome is Outcome.SUCCEEDED
    assert [one.machine for one in world.warm.newest()] == ([name] if waits else [])


def test_the_next_run_takes_it_over_without_any_order(world: World) -> None:
    name = worked(world)
    world.now += seconds(20)
    world.submit(NEXT, spec=WARM, wants_release=False)
    world.step()
    assert [made for _, made in world.provider.created] == [name]
    taken = kept(world)
    assert taken.taken_by == f"cynthus-{NEXT}-1"
    assert idle_usd(taken, world.now + seconds(900)) == Decimal("0.02")
    world.enrol(NEXT)
    world.step()
    assert world.state(NEXT) is State.RUNNING
    assert world.run(NEXT).attempts[0].offer.warm == name


def test_a_fork_s_run_neither_takes_nor_leaves_a_warm_instance(world: World) -> None:
    first = worked(world)
    yes = Approval(
        by="ada",
        by_id=5,
        at=world.now,
        commit_sha=a_key().commit_sha,
        spec_sha256=effective_digest(WARM),
        image=None,
        cap_usd=Decimal(100),
    )
    name = worked(world, NEXT, origin=Origin(fork=True), approval=yes)
    assert [made for _, made in world.provider.created] == [first, name]
    assert [one.machine for one in world.warm.newest()] == [first]


def test_it_is_deleted_by_its_own_name_after_the_second_run(world: World) -> None:
    name = worked(world)
    world.submit(NEXT, spec=replace(WARM, keep_warm=seconds(0)), wants_release=False)
    world.step()
    second = world.enrol(NEXT)
    world.step()
    world.finish_work(second, an_exit(0))
    world.wait(seconds(30))
    assert world.state(NEXT) is State.FINISHED
    assert world.provider.instances == {}
    assert name != second


def test_it_may_wait_again_and_serve_a_third_run(world: World) -> None:
    worked(world)
    worked(world, NEXT)
    third = "arun00000003"
    world.submit(third, spec=WARM, wants_release=False)
    world.step()
    assert len(world.provider.created) == 1
    assert world.run(third).attempts[0].offer.warm == world.provider.created[0][1]


def test_another_repository_never_gets_it(world: World) -> None:
    worked(world)
    stranger = a_key(repository_id=8, trigger="push/other")
    world.submit(NEXT, key=stranger, spec=WARM, wants_release=False)
    world.step()
    assert len(world.provider.created) == 2
    assert kept(world).taken_by is None


@pytest.mark.parametrize(
    "need",
    [
        Resources(cpu=64),
        Resources(memory_bytes=1 << 40),
        Resources(disk_bytes=1 << 40),
        Resources(gpu=(GpuNeed(type="l4", count=1),)),
        Resources(places=("elsewhere",)),
        Resources(nodes=2),
        Resources(max_duration=seconds(10 * 24 * 3600)),  # longer than the machine may live
    ],
    ids=["cpu", "memory", "disk", "gpu", "place", "gang", "life"],
)
def test_a_run_that_it_does_not_fit_gets_a_new_one(world: World, need: Resources) -> None:
    worked(world)
    world.submit(NEXT, spec=replace(WARM, resources=need), wants_release=False)
    world.step()
    assert kept(world).taken_by is None
    assert len(world.provider.created) > 1


def test_a_gpu_waits_only_for_those_who_want_that_gpu(world: World) -> None:
    lent = an_offer(gpu_type="l4", gpu_count=1, place="us-central1-a")
    world.provider.lent = [lent]
    worked(world)
    cpu_only = replace(WARM, resources=Resources(max_duration=seconds(3600)))
    world.submit(NEXT, spec=cpu_only, wants_release=False)
    world.step()
    assert kept(world).taken_by is None
    need = Resources(
        gpu=(GpuNeed(type="a100", count=1), GpuNeed(type="l4", count=1)),
        places=("us-central1",),
        max_duration=seconds(3600),
    )
    world.submit("arun00000003", spec=replace(WARM, resources=need), wants_release=False)
    world.step()
    assert kept(world).taken_by == "cynthus-arun00000003-1"


def test_nobody_comes_and_it_is_given_back_whatever_its_provider_says_at_first(
    world: World,
) -> None:
    worked(world)
    world.now += seconds(599)
    world.warm.hear(f"cynthus-{RUN}-1", world.now)
    assert 0 < world.keeper.step() <= 1
    assert kept(world).ended_at is None
    world.now += seconds(1)
    world.provider.fail("delete", ProviderUnavailable("503"))
    world.keeper.step()
    assert kept(world).ended_at is not None
    assert kept(world).gone_at is None
    world.submit(NEXT, spec=WARM, wants_release=False)
    world.step()
    assert kept(world).taken_by is None, "what is being given back is not taken"
    for _ in range(3):
        world.now += seconds(5)
        world.keeper.step()
    assert kept(world).gone_at is not None
    assert f"cynthus-{RUN}-1" not in world.provider.instances
    assert idle_usd(kept(world), world.now + seconds(3600)) < Decimal("0.62")


def test_an_agent_that_asks_no_more_is_not_counted_on_and_its_instance_goes(world: World) -> None:
    worked(world)
    world.now += seconds(31)
    world.submit(NEXT, spec=WARM, wants_release=False)
    world.step()
    assert kept(world).taken_by is None
    world.now += seconds(120)
    world.keeper.step()
    world.keeper.step()
    assert kept(world).gone_at is not None


def test_a_taken_instance_whose_agent_does_not_come_costs_a_minute_and_no_attempt(
    world: World,
) -> None:
    name = worked(world)
    world.submit(NEXT, spec=replace(WARM, retry=replace(WARM.retry, attempts=1)))
    world.step()
    world.wait(seconds(75))
    first, second = world.run(NEXT).attempts
    assert first.reason is not None
    assert first.reason.cause is Cause.BOOT
    assert first.gone_at is not None
    assert second.offer.warm == ""
    assert name not in world.provider.instances


@pytest.mark.parametrize("end", ["cancelled", "preempted", "infrastructure"])
def test_other_ends_keep_nothing(world: World, end: str) -> None:
    world.submit(spec=WARM, wants_release=False)
    world.step()
    name = world.enrol()
    world.step()
    if end == "cancelled":
        world.runs.cancel(RUN, "ada", world.now)
        world.step()
    exits = {
        "cancelled": an_exit(143, stopped=True),
        "preempted": an_exit(143, stopped=True),
        "infrastructure": an_exit(None, error="no driver", infrastructure=True),
    }
    world.beat(name, AgentState.DONE, exit=exits[end], outputs=(), preempted=end == "preempted")
    world.step()
    assert world.warm.newest() == ()


def test_a_crash_between_two_runs_leaves_one_owner(world: World) -> None:
    name = worked(world)
    world.restart()
    world.submit(NEXT, spec=WARM, wants_release=False)
    world.step_to_queued()
    world.restart()
    world.step()
    assert kept(world).taken_by == f"cynthus-{NEXT}-1"
    world.restart()
    world.instances.enrol(
        f"cynthus-{NEXT}-1", nonce="n", token_sha256="t", facts=some_facts(), now=world.now
    )
    world.step()
    assert world.state(NEXT) is State.RUNNING
    assert list(world.provider.instances) == [name]


def test_two_runs_that_want_it_do_not_both_get_it(world: World) -> None:
    worked(world)
    for run_id in (NEXT, "arun00000003"):
        world.submit(run_id, spec=WARM, wants_release=False)
    world.step()
    world.step()
    warm = [world.run(run_id).attempts[0].offer.warm for run_id in (NEXT, "arun00000003")]
    assert sorted(map(bool, warm)) == [False, True]
    assert len(world.provider.created) == 2


def test_sweeps_leave_it_alone_while_it_waits_and_while_it_works(world: World) -> None:
    name = worked(world)
    world.now += seconds(300)
    world.warm.hear(f"cynthus-{RUN}-1", world.now)
    world.sweeper.step()
    listing = compare(world.sweeper.books, world.provider)
    assert listing.names(Standing.WARM) == {name}
    world.submit(NEXT, spec=WARM, wants_release=False)
    world.step()
    world.enrol(NEXT)
    world.step()
    world.sweeper.step()
    listing = compare(world.sweeper.books, world.provider)
    assert (listing.names(Standing.WORKING), listing.missing) == ({name}, ())
    assert list(world.provider.instances) == [name]


def test_what_waits_counts_against_the_budget_with_its_worst_then_with_its_cost(
    world: World,
) -> None:
    limits = BudgetLimits(repository_usd=Decimal(100))
    budgets = BudgetStore(world.db, limits)

    def booked() -> Decimal:
        [seen] = budgets.of_repository(7, world.now)
        assert seen.scope is BudgetScope.REPOSITORY
        return seen.booked_usd

    worked(world)
    own = world.run().cost_usd
    assert booked() == own + Decimal("0.75")  # ten minutes, and what a deletion may take
    world.now += seconds(600)
    world.keeper.step()
    world.keeper.step()
    assert kept(world).gone_at is not None
    assert booked() == own + idle_usd(kept(world), world.now)


def test_a_fault_nobody_expects_of_one_instance_keeps_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = worked(world)
    second = worked(world, NEXT, key=a_key(trigger="other", repository_id=8))
    delete = world.provider.delete

    def faulty(name: str) -> None:
        if name == first:
            raise RuntimeError("nobody expects this")
        delete(name)

    world.provider.delete = faulty  # type: ignore[method-assign]
    world.now += seconds(3600)
    world.keeper.step()
    assert first in world.provider.instances
    assert second not in world.provider.instances
    assert f"warm instance failed name={first}" in caplog.messages
