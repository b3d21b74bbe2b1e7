"""What exists and nobody knows is reported, waited for, then deleted, unless it is we who err."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_key, an_exit
from tests.engine.world import RUN, World
from tests.fake_provider import FakeProvider
from webhook_server.providers.provider import Instance, ProviderUnavailable
from webhook_server.runs.model import State
from webhook_server.sweep import EVERY, UNKNOWN_GRACE

Gauges = dict[str, float]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    yield made
    made.db.close()


def leave(world: World, name: str, **changes: Any) -> None:
    """Have something exist that wears our mark."""
    given = {"name": name, "place": "here", "alive": True} | changes
    world.provider.instances[f"{name}/{changes.get('kind', 'instance')}"] = Instance(**given)


def left(world: World) -> list[str]:
    return sorted({instance.name for instance in world.provider.list()})


def fleet(world: World, number: int) -> list[str]:
    for count in range(number):
        world.submit(f"arun0000000{count}")
    world.step()
    return [world.name(f"arun0000000{count}") for count in range(number)]


def sweep_for(world: World, duration: timedelta) -> None:
    end = world.now + duration
    while world.now < end:
        world.now += EVERY
        world.sweeper.step()


def gauges(world: World) -> Gauges:
    return {name: value for name, _, value in world.sweeper.gauges()}


def obey(world: World) -> None:
    """Let the deletion of a name clear all that came with it, as providers do."""

    def delete(name: str) -> None:
        there = [key for key, one in world.provider.instances.items() if one.name == name]
        for key in there:
            del world.provider.instances[key]

    world.provider.delete = delete  # type: ignore[method-assign]


def test_a_disk_and_an_address_that_nobody_knows_are_deleted_after_the_grace(world: World) -> None:
    obey(world)
    known = fleet(world, 8)
    leave(world, "stray", kind="disk", usd_per_hour=Decimal("0.02"))
    leave(world, "stray", kind="address", usd_per_hour=Decimal("0.005"))
    sweep_for(world, UNKNOWN_GRACE - EVERY)
    assert left(world) == sorted([*known, "stray"])
    counted = gauges(world)
    assert counted["cynthus_unknown_instances"] == 1
    assert counted["cynthus_unknown_usd_per_hour"] == pytest.approx(0.025)
    assert counted["cynthus_lent_instances"] == 9
    sweep_for(world, 3 * EVERY)
    assert left(world) == sorted(known)
    assert gauges(world)["cynthus_unknown_instances"] == 0


def test_a_disk_that_outlives_its_finished_run_is_deleted_at_once(world: World) -> None:
    obey(world)
    world.submit(key=a_key(repository_id=0))
    world.step()
    name = world.enrol()
    world.step()
    world.finish_work(name, an_exit(1))
    world.wait(timedelta(minutes=1))
    assert world.state() is State.FINISHED
    leave(world, name, kind="disk")
    world.sweeper.step()
    assert left(world) == []


def test_a_disk_is_no_sign_that_its_instance_lives(world: World) -> None:
    world.submit()
    world.step()
    world.enrol()
    world.step()
    name = world.name(RUN)
    world.provider.instances.clear()
    leave(world, name, kind="disk")
    world.sweeper.step()
    assert world.runs.next_due(world.now) == world.now, "the loop asks for the instance by name"
    assert left(world) == [name], "the run's own deletion clears it"


@pytest.mark.parametrize(("of", "goes"), [(4, True), (9, True), (10, True)])
def test_a_fifth_of_a_fleet_goes_unasked(world: World, of: int, goes: bool) -> None:
    number = max(1, of // 5)
    known = fleet(world, of - number)
    for count in range(number):
        leave(world, f"stray-{count}")
    obey(world)
    sweep_for(world, UNKNOWN_GRACE + 2 * EVERY)
    assert (left(world) == sorted(known)) is goes


@pytest.mark.case("P13")
def test_a_database_restored_from_yesterday_deletes_no_fleet_bit_by_bit(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    obey(world)
    fleet(world, 2)
    with caplog.at_level(logging.WARNING):
        for number in range(4):  # noticed one after the other, so their graces end one by one
            leave(world, f"lost-{number}")
            sweep_for(world, EVERY)
        sweep_for(world, timedelta(hours=1))
    assert len(left(world)) == 6
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if text.startswith("unknown instance seen")] == [
        f"unknown instance seen name=lost-{number} provider=fake" for number in range(4)
    ]
    assert any("cynthus gcp audit --sweep" in text for text in told)
    assert gauges(world)["cynthus_unknown_instances"] == 4


def test_what_becomes_known_again_is_never_deleted(world: World) -> None:
    fleet(world, 2)
    leave(world, "cynthus-late00000000-1")
    sweep_for(world, EVERY)
    world.submit("late00000000")  # its operator filled the database up
    world.step()
    sweep_for(world, timedelta(minutes=20))
    assert "cynthus-late00000000-1" in left(world)


def test_an_unanswered_list_leaves_the_figures_of_the_last_complete_one(world: World) -> None:
    fleet(world, 6)
    leave(world, "stray")
    world.sweeper.step()
    world.provider.fail("list", ProviderUnavailable("page 2 failed"))
    world.sweeper.step()
    assert gauges(world)["cynthus_unknown_instances"] == 1


def test_a_fault_nobody_expects_of_one_instance_spares_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    obey(world)
    fleet(world, 10)
    leave(world, "stray-0")
    leave(world, "stray-1")
    delete = world.provider.delete

    def faulty(name: str) -> None:
        if name == "stray-0":
            raise RuntimeError("nobody expects this")
        delete(name)

    world.provider.delete = faulty  # type: ignore[method-assign]
    sweep_for(world, UNKNOWN_GRACE + 2 * EVERY)
    assert "stray-0" in left(world)
    assert "stray-1" not in left(world)
    assert "sweep failed name=stray-0 provider=fake" in caplog.messages


def test_a_fault_nobody_expects_of_one_provider_spares_no_other(world: World) -> None:
    obey(world)
    fleet(world, 5)
    leave(world, "stray")

    class Faulty(FakeProvider):
        def list(self) -> list[Instance]:
            raise RuntimeError("nobody expects this")

    sound = world.providers.pop("fake")
    world.providers |= {"faulty": Faulty(lambda: world.now, "faulty"), "fake": sound}
    sweep_for(world, UNKNOWN_GRACE + 2 * EVERY)
    assert "stray" not in left(world)


@pytest.mark.case("P13")
def test_an_empty_database_deletes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    obey(world)
    leave(world, "stray")  # one alone may always go, but for this
    with caplog.at_level(logging.ERROR):
        sweep_for(world, 2 * UNKNOWN_GRACE)
    assert left(world) == ["stray"]
    told = [record.getMessage() for record in caplog.records]
    assert any("the database is empty, so it may be the wrong one" in text for text in told)
    assert not any("deleted" in text for text in told)

    fleet(world, 1)  # it is the right one after all: the stray's grace is long over
    world.sweeper.step()
    assert left(world) == [world.name("arun00000000")]
