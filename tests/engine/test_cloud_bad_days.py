"""The cloud's bad days (cases P1-P17, A23): engine, stores and the real provider on a simulator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import compute_v1

from cynthus.spec import Output, Spot
from cynthus.wire import AgentState
from tests.builders import an_exit, seconds
from tests.contract.google_description import judge_exchanges
from tests.engine.cloud_world import HERE, RUN, THERE, CloudWorld
from tests.gcp_fixture import GcpSimulator, gcp_simulator
from webhook_server.providers import gcp, gcp_client
from webhook_server.providers.gcp_kept import Kept
from webhook_server.providers.gcp_machines import NAMES, Catalogue, read_catalogue
from webhook_server.runs.model import Cause, Outcome, State
from webhook_server.runs.policy import CLOUD
from webhook_server.strays import sweep_asked
from webhook_server.sweep import EVERY, UNKNOWN_GRACE

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NO_DELAYS = ("provisioning_s", "staging_s", "stopping_s", "grace_s", "preempt_s")
DETECTED = seconds(45)  # three missed heartbeats, one question, one more pass


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpSimulator]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as simulator:
        simulator.post("/settings", dict.fromkeys(NO_DELAYS, 0))
        yield simulator


@pytest.fixture(scope="module")
def catalogue(sim: GcpSimulator) -> Kept[Catalogue]:
    door = gcp_client.Door(gcp_client.Account(project=sim.project, compute_url=sim.url))

    def read() -> Catalogue:
        return read_catalogue(door.machine_types(f'name eq "{NAMES}"'), door.accelerator_types())

    return Kept(read, gcp.CATALOGUE_FOR_S, lambda: 0.0)


@pytest.fixture
def world(sim: GcpSimulator, catalogue: Kept[Catalogue], tmp_path: Path) -> Iterator[CloudWorld]:
    made = CloudWorld(sim, tmp_path, catalogue)
    yield made
    made.db.close()
    sim.sim("DELETE", "/faults")
    sim.post("/clock", advance_s=48 * 3600)  # whatever a test left ends by itself
    with sim.exchanges.open() as file:
        file.seek(made.began)
        assert judge_exchanges(file) == []


def fault(world: CloudWorld, kind: str, match: dict[str, str] | None = None, **more: Any) -> None:
    world.sim.fault(kind, match, **more)


def fails(world: CloudWorld, verb: str, code: int, times: int = -1, **more: Any) -> None:
    """Let one verb on instances, or all (`.*`), be refused."""
    match = {"verb": f"compute.instances.{verb}"}
    fault(world, "error", match, code=code, times=times, **more)


def by_hand(world: CloudWorld, deed: str, name: str, zone: str = HERE) -> None:
    client = world.sim.client(compute_v1.InstancesClient)
    getattr(client, f"{deed}_unary")(project=world.sim.project, zone=zone, instance=name)


# ── orders ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("P1")
def test_p1_a_stockout_leads_to_the_next_zone_only_once_it_is_certain(world: CloudWorld) -> None:
    fault(world, "stockout", {"zone": HERE}, times=-1)
    world.ask_for(HERE, THERE)
    assert world.zones() == [HERE]  # no word yet: no second order
    world.wait(seconds(15))  # two machines have an L4 and fit
    assert world.zones() == [HERE, THERE]
    world.succeeds()


@pytest.mark.case("P1")
def test_p1_with_no_capacity_anywhere_the_run_waits_and_says_where_it_tried(
    world: CloudWorld,
) -> None:
    fault(world, "stockout", {"zone": f"{HERE}|{THERE}"}, times=-1)
    world.ask_for(HERE, THERE)
    world.wait(seconds(10))
    run = world.run()
    assert (run.state, run.reason.cause) == (State.QUEUED, Cause.NO_CAPACITY)
    assert HERE in run.reason.text
    assert THERE in run.reason.text
    assert world.left() == []
    world.sim.sim("DELETE", "/faults")
    world.wait_for(State.PROVISIONING, 10 * MINUTE)
    world.succeeds()


@pytest.mark.case("P2")
def test_p2_a_quota_over_all_regions_ends_the_run_with_its_name(world: CloudWorld) -> None:
    fault(world, "quota", **{"global": True})
    world.ask_for()
    world.wait(seconds(5))
    assert world.run().outcome is Outcome.FAILED  # at once; then its remains are looked for
    world.wait(2 * MINUTE)
    assert world.ending() == (State.FINISHED, Outcome.FAILED, Cause.REFUSED)
    assert "GPUS_ALL_REGIONS" in world.run().reason.text
    assert len(world.zones()) == 1


@pytest.mark.parametrize("code", [400, 412])
def test_an_order_that_google_finds_fault_with_ends_the_run_and_walks_no_zones(
    world: CloudWorld, code: int
) -> None:
    fails(world, "insert", code, message="Invalid value for field 'resource.disks'")
    world.ask_for(HERE, THERE, "us-central1-c")
    world.wait(seconds(10))
    assert world.ending() == (State.FINISHED, Outcome.FAILED, Cause.REFUSED)
    assert "resource.disks" in world.run().reason.text
    assert len(world.asked("insert")) == 1


@pytest.mark.case("P3")
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("verb", ["insert", "get", "delete", "aggregatedList"])
def test_p3_a_verb_that_is_refused_for_a_while_is_repeated_under_the_same_name(
    world: CloudWorld, verb: str, code: int
) -> None:
    fails(world, verb, code, times=3, reason="rateLimitExceeded" if code == 429 else "backendError")
    world.ask_for(HERE)
    world.wait(MINUTE)
    world.succeeds()
    assert len({one["query"] for one in world.asked("insert")}) == 1  # one request id
    assert len(world.run().attempts) == 1
    assert len(world.asked("insert")) == (4 if verb == "insert" else 1)


@pytest.mark.case("P4")
@pytest.mark.parametrize(
    ("kind", "more"),
    [("lost", {"effect": False}), ("lost", {"effect": True}), ("late", {"seconds": 120})],
    ids=["not done", "done", "done late"],
)
def test_p4_an_order_whose_answer_is_lost_is_one_instance_at_most(
    world: CloudWorld, kind: str, more: dict[str, Any]
) -> None:
    fault(world, kind, {"verb": "compute.instances.insert"}, **more)
    world.ask_for(HERE)
    world.wait(3 * MINUTE)
    assert len(world.left()) == 1
    world.succeeds()
    world.wait(CLOUD.grace)
    assert world.left() == []


@pytest.mark.case("P4")
@pytest.mark.parametrize("late_s", [60, 120])
def test_p4_an_order_that_takes_effect_after_its_run_was_cancelled_leaks_nothing(
    world: CloudWorld, late_s: int
) -> None:
    fault(world, "late", {"verb": "compute.instances.insert"}, seconds=late_s)
    world.ask_for(HERE)
    world.runs.cancel(world.id_of(RUN), "ada", world.now)
    world.wait(seconds(30))
    assert world.state() is State.RELEASING  # nothing exists, and that proves nothing yet
    world.wait_for(State.FINISHED, CLOUD.grace + 2 * MINUTE)
    assert world.run().outcome is Outcome.CANCELLED
    assert world.left() == []


@pytest.mark.case("P5")
def test_p5_an_order_that_is_stuck_for_20_minutes_is_given_up_and_never_left(
    world: CloudWorld,
) -> None:
    fault(world, "stuck", {"zone": HERE}, seconds=1200, effect=False)
    world.ask_for(HERE, THERE)
    first = world.name()
    world.wait(CLOUD.provision_limit - MINUTE)
    assert world.name() == first
    world.wait(5 * MINUTE)
    assert world.run().attempts[0].lost
    world.wait(20 * MINUTE)
    world.succeeds()
    assert first not in str(world.left())


@pytest.mark.case("P5")
@pytest.mark.parametrize("leaves", ["nothing", "stopped", "running"])
def test_p5_a_failed_order_that_left_an_instance_is_cleared_and_repeated_elsewhere(
    world: CloudWorld, leaves: str
) -> None:
    fault(world, "insert_fails", {"zone": HERE}, code="RESOURCE_NOT_FOUND", leaves=leaves)
    world.ask_for(HERE, THERE)
    first = world.name()
    world.wait(seconds(30))
    if leaves == "running":  # what runs is what was ordered
        assert len(world.run().attempts) == 1
    else:
        assert len(world.run().attempts) == 2
        assert first not in str(world.left())
    world.succeeds()


@pytest.mark.case("P5")
@pytest.mark.parametrize("what", ["disk", "address"])
def test_p5_what_a_deletion_leaves_is_found_and_deleted(world: CloudWorld, what: str) -> None:
    world.ask_for(HERE)
    name = world.executing()
    fault(world, f"leaves_{what}", {"name": name})
    world.finish_work(name, an_exit(0))
    world.wait_for(State.FINISHED, 5 * MINUTE)
    world.wait(MINUTE)
    world.sweeper.step()
    world.wait(MINUTE)
    assert world.left() == []


@pytest.mark.case("P6")
def test_p6_an_instance_that_no_answer_shows_yet_is_not_taken_as_gone(world: CloudWorld) -> None:
    fault(world, "invisible", seconds=40)
    world.ask_for(HERE)
    world.wait(MINUTE)
    assert len(world.run().attempts) == 1
    world.succeeds()
    assert len(world.asked("insert")) == 1


# ── instances ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("P7")
@pytest.mark.parametrize("how", ["vanish", "host_error", "stop", "delete"])
def test_p7_an_instance_that_stops_executing_is_noticed_and_replaced(
    world: CloudWorld, how: str
) -> None:
    world.ask_for(HERE, THERE)
    name = world.executing()
    if how in {"vanish", "host_error"}:
        world.sim.post(f"/instances/{name}/{how}")
    else:
        by_hand(world, how, name, world.zones()[0])
    assert world.replaced(name) <= DETECTED
    assert world.left() == [f"instance {world.name()}"]  # the old one costs nothing any more
    world.succeeds()


@pytest.mark.case("P7")
def test_p7_an_instance_that_somebody_starts_again_does_not_come_back_into_its_run(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE, THERE)
    name, zone = world.executing(), world.zones()[0]
    fails(world, "delete", 500)
    by_hand(world, "stop", name, zone)
    world.wait(DETECTED)
    by_hand(world, "start", name, zone)
    assert world.beat(name).closed, "its agent is told that its attempt is over"
    world.sim.sim("DELETE", "/faults")
    world.wait(MINUTE)
    assert f"instance {name}" not in world.left()
    world.succeeds()


@pytest.mark.case("P8")
def test_p8_a_preemption_during_the_boot_is_told_as_one_and_replaced_elsewhere(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE, THERE, spot=Spot.ALWAYS)
    first = world.name()
    world.wait(seconds(5))
    world.sim.post(f"/instances/{first}/preempt")
    assert world.replaced(first) <= CLOUD.ask_booting + seconds(2)
    assert world.run().attempts[0].reason is not None
    assert world.run().attempts[0].reason.cause is Cause.PREEMPTED
    assert len(set(world.zones())) == 2
    world.succeeds()


@pytest.mark.case("P8")
def test_p8_a_preemption_during_the_upload_repeats_the_run_without_its_outputs(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE, THERE, spot=Spot.ALWAYS, outputs=(Output("model"),))
    name = world.executing()
    world.beat(name, AgentState.UPLOADING, exit=an_exit(0))
    world.step()
    assert world.state() is State.COLLECTING
    world.beat(name, AgentState.UPLOADING, exit=an_exit(0), preempted=True)
    world.sim.post(f"/instances/{name}/preempt")
    world.replaced(name)
    assert world.run().attempts[0].lost
    assert not world.run().outputs
    world.succeeds()


@pytest.mark.case("A23")
def test_a23_a_notice_of_preemption_is_followed_by_another_attempt_elsewhere(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE, THERE, spot=Spot.ALWAYS)
    name = world.executing()
    world.beat(name, preempted=True)
    world.sim.post(f"/instances/{name}/preempt")
    world.beat(name, AgentState.UPLOADING, exit=an_exit(143, stopped=True), preempted=True)
    took = world.replaced(name)
    assert took <= seconds(2), took
    assert world.run().attempts[0].reason is not None
    assert world.run().attempts[0].reason.cause is Cause.PREEMPTED
    assert len(set(world.zones())) == 2
    world.succeeds()


@pytest.mark.case("P16")
def test_p16_a_machine_that_never_starts_its_agent_is_given_back_at_the_boot_deadline(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE, THERE)
    first = world.name()
    world.wait(CLOUD.boot_limit - MINUTE)
    assert world.name() == first
    world.wait(2 * MINUTE)
    reason = world.run().attempts[0].reason
    assert reason is not None
    assert reason.cause is Cause.BOOT
    assert "the agent did not come within" in reason.text
    assert f"instance {first}" not in world.left()
    world.succeeds()


# ── deletion, credentials, the end of us ────────────────────────────────────────────────────────


@pytest.mark.case("P9")
@pytest.mark.parametrize("code", [403, 500])
def test_p9_a_deletion_that_is_refused_is_never_taken_as_done_and_is_told(
    world: CloudWorld, code: int
) -> None:
    world.ask_for(HERE)
    name = world.executing()
    fails(world, "delete", code, message="no such permission today")
    world.finish_work(name, an_exit(0))
    world.wait(CLOUD.delete_alert + 2 * MINUTE)
    assert world.state() is State.RELEASING
    assert world.left() == [f"instance {name}"]
    [told] = world.run().notices
    assert "gcp has not confirmed the deletion" in told
    world.sim.sim("DELETE", "/faults")
    world.wait_for(State.FINISHED, 5 * MINUTE)
    assert world.run().outcome is Outcome.SUCCEEDED
    assert world.left() == []


@pytest.mark.case("P9")
def test_p9_a_deletion_of_what_is_gone_already_is_done(world: CloudWorld) -> None:
    world.ask_for(HERE)
    name = world.executing()
    by_hand(world, "delete", name)
    world.finish_work(name, an_exit(0))
    world.wait_for(State.FINISHED, MINUTE)
    assert world.run().outcome is Outcome.SUCCEEDED


@pytest.mark.case("P10")
@pytest.mark.parametrize("code", [401, 403])
def test_p10_without_credentials_nothing_is_taken_as_gone_and_all_ends_by_itself(
    world: CloudWorld, code: int
) -> None:
    world.ask_for(HERE)
    name = world.executing()
    fault(world, "error", code=code, reason="forbidden", message="revoked", times=-1)
    world.wait(5 * MINUTE, beats=True)
    assert world.state() is State.RUNNING  # its agent is heard: nothing is wrong with it
    world.finish_work(name, an_exit(0))
    world.wait(15 * MINUTE)
    assert world.state() is State.RELEASING
    [told] = world.run().notices
    assert "cannot be managed: Google Cloud" in told
    assert ("credentials" if code == 401 else "revoked") in told
    world.sweeper.step()  # and nobody believes the list that does not come
    attempt = world.run().attempt
    assert attempt is not None
    world.sim.post("/clock", advance_s=(attempt.max_life + MINUTE).total_seconds())
    assert [one for one in world.sim.sim("GET", "/instances") if name in str(one)] == []
    world.sim.sim("DELETE", "/faults")
    world.wait_for(State.FINISHED, 5 * MINUTE)
    assert world.run().outcome is Outcome.SUCCEEDED


@pytest.mark.case("P17")
def test_p17_when_no_server_is_left_every_instance_ends_by_itself(world: CloudWorld) -> None:
    for number in range(3):
        world.ask_for(HERE, run_id=f"drun0000000{number}")
    world.wait(seconds(5))
    assert len(world.left()) == 3
    attempt = world.run("drun00000000").attempt
    assert attempt is not None
    world.sim.post("/clock", advance_s=(attempt.max_life + MINUTE).total_seconds())
    assert world.left() == []


# ── sweeps ──────────────────────────────────────────────────────────────────────────────────────


def sweep_for(world: CloudWorld, duration: timedelta) -> None:
    end = world.now + duration
    while world.now < end:
        world.now += EVERY
        world.sim.post("/clock", advance_s=EVERY.total_seconds())
        world.sweeper.step()


def fleet(world: CloudWorld, number: int) -> list[str]:
    """Order instances; return their names once they run."""
    ids = [f"brun0000000{count}" for count in range(number)]
    for run_id in ids:
        world.ask_for(HERE, run_id=run_id)
    world.wait(seconds(2))
    return [world.name(run_id) for run_id in ids]


@pytest.mark.case("P12")
@pytest.mark.parametrize("how", ["a page fails", "a zone is missing"])
def test_p12_a_sweep_does_nothing_on_a_list_that_is_not_whole(world: CloudWorld, how: str) -> None:
    fleet(world, 1)
    before = world.left()
    yesterday = _copy(world)
    stray = fleet_after(world)
    _restore(world, yesterday)
    verb = "compute.instances.aggregatedList"
    if how == "a page fails":
        fault(world, "error", {"verb": verb}, code=500, times=-1)
    else:
        fault(world, "partial_list", {"verb": verb}, zones=["europe-west4-a"], times=-1)
    sweep_for(world, UNKNOWN_GRACE + 3 * EVERY)
    world.sim.sim("DELETE", "/faults")
    assert world.left() == sorted([*before, f"instance {stray}"])


def fleet_after(world: CloudWorld) -> str:
    """Order one more, later than the copy of the database was made."""
    world.ask_for(HERE, run_id="crun00000000")
    world.wait(seconds(2))
    return world.name("crun00000000")


def _copy(world: CloudWorld) -> Path:
    """Return a copy of the database as it is now."""
    world.db.close()
    source = Path(world.url.removeprefix("sqlite:///"))
    kept = source.with_suffix(".yesterday")
    shutil.copy(source, kept)
    world.start()
    return kept


def _restore(world: CloudWorld, kept: Path) -> None:
    world.db.close()
    target = Path(world.url.removeprefix("sqlite:///"))
    for part in ("", "-wal", "-shm"):
        Path(f"{target}{part}").unlink(missing_ok=True)
    shutil.copy(kept, target)
    world.start()


@pytest.mark.case("P13")
def test_p13_with_yesterdays_database_a_fleet_is_reported_and_only_a_person_deletes_it(
    world: CloudWorld,
) -> None:
    world.ask_for(HERE)
    yesterday = _copy(world)
    lost = fleet(world, 3)
    _restore(world, yesterday)
    sweep_for(world, HOUR)
    assert len(world.left()) == 4
    assert {name: value for name, _, value in world.sweeper.gauges()}[
        "cynthus_unknown_instances"
    ] == 3
    begun, spared = sweep_asked(world.sweeper.books, lost, len(lost))
    assert (begun, spared) == (sorted(lost), {})
    assert world.left() == [f"instance {world.name()}"]


@pytest.mark.case("P13")
def test_p13_with_an_empty_database_nothing_is_ever_deleted(world: CloudWorld) -> None:
    empty = _copy(world)
    names = fleet(world, 1)
    _restore(world, empty)
    sweep_for(world, HOUR)
    assert world.left() == [f"instance {name}" for name in names]


@pytest.mark.case("P14")
def test_p14_of_two_control_planes_in_one_project_each_sweeps_only_its_own(
    world: CloudWorld, tmp_path: Path
) -> None:
    other = CloudWorld(world.sim, tmp_path, world.catalogue)
    other.ask_for(HERE)  # also the same run id, so the same name: in another zone
    other.wait(seconds(2))
    world.ask_for(THERE, run_id="brun00000000")
    world.wait(seconds(2))
    other_has = other.left()
    sweep_for(world, UNKNOWN_GRACE + 3 * EVERY)
    assert other.left() == other_has
    assert len(world.left()) == 1
    other.db.close()
