"""A push runs on simulated Google Cloud: the real agent, booted by our user data in machines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from cynthus.wire import RunView
from demo.__main__ import published_release, wait_for_check
from demo.cloud import Cloud
from demo.stage import ROOT, Stage, standing
from tests.contract.google_description import judge_exchanges
from tests.flow.conftest import HASTE, judge
from tests.flow.test_agent_gang import MEET
from tests.flow.test_push_to_release import (
    WORKFLOW,
    assert_manifest_is_true_of,
    run_to_its_end,
    shares_environment,
)

pytestmark = pytest.mark.slow
L4 = "gpu: l4"
LONGEST_JUDGED = 50_000
LIMIT_S = 120  # of anything that takes seconds: the machine may be busy with other tests
SPEC = """\
version: 1
name: {name}
run: python train.py
image: {{base: python}}
resources: {{{resources}, max_duration: 10m}}
outputs: [{{path: outputs}}]
retry: {{attempts: {attempts}}}
"""
SAVE = """
import os, pathlib
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/model.txt").write_text("trained in attempt " + os.environ["CYNTHUS_ATTEMPT"])
"""
TRAIN = """
import os, time
print("::phase::train", flush=True)
for step in range(3):
    print(f"::metric name=loss,step={step}::{1 / (step + 1)}", flush=True)
while os.environ["CYNTHUS_ATTEMPT"] == "1":
    time.sleep(1)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("google")
    with standing(folder, settings=HASTE, cloud=True) as stage:
        yield stage
        judge(stage)
        lines = cloud_of(stage).exchanges.read_text("utf-8").splitlines()
        # The catalogue's pages of half a megabyte are judged by tests/contract already.
        assert judge_exchanges(line for line in lines if len(line) < LONGEST_JUDGED) == []


@pytest.fixture(scope="module", autouse=True)
def out_of_stock(stage: Stage) -> str:
    """A push into two zones without stock, made first: its failed orders are watched a minute."""
    cloud = cloud_of(stage)
    for zone, more in (("b", {}), ("c", {"details": True, "zones": ["europe-west4-a"]})):
        match = {"zone": f"europe-west4-{zone}"}
        fault = {"kind": "stockout", "match": match, "times": -1, **more}
        cloud.control("POST", "faults", fault)
    places = "places: [europe-west4-b, europe-west4-c, europe-west1-b, europe-west4-a]"
    return push(stage, "out-of-stock", f"{L4}, spot: true, {places}", SAVE)


def cloud_of(stage: Stage) -> Cloud:
    assert stage.cloud is not None
    return stage.cloud


def push(
    stage: Stage, name: str, resources: str, program: str, *, attempts: int = 3, more: str = ""
) -> str:
    """Push a repository with one program; return the commit."""
    source = stage.folder / "sources" / name
    (source / WORKFLOW).parent.mkdir(parents=True)
    (source / WORKFLOW).write_bytes((ROOT / "examples/digits" / WORKFLOW).read_bytes())
    shares_environment(source)
    spec = SPEC.format(name=name, resources=resources, attempts=attempts)
    (source / "cynthus.yaml").write_text(spec + more, "utf-8")
    (source / "train.py").write_text(program, "utf-8")
    stage.create_repository(name)
    return stage.push(name, source)


def wait_for(what: str, find: Callable[[], Any]) -> Any:
    """Return what `find` finds once it is something."""
    tick = threading.Event()
    for _ in range(LIMIT_S * 20):
        found = find()
        if found:
            return found
        tick.wait(0.05)
    raise AssertionError(f"{what}: not within {LIMIT_S} s")


def machines(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    """Return the instances of a run, also those that no list shows."""
    found = cloud_of(stage).control("GET", "instances")
    return [one for one in found if one["name"].startswith(f"cynthus-{run_id}-")]


def running(stage: Stage, run_id: str) -> Iterator[str]:
    """Name the instances of a run whose power is on; their boot takes another second."""
    for one in machines(stage, run_id):
        if one["status"] == "RUNNING":
            yield one["name"]


def inserts(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    """Return the orders of a run as the cloud was asked for them, repeated ones included."""
    lines = cloud_of(stage).exchanges.read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines if '"compute.instances.insert"' in line]
    return [e for e in found if e["request"]["name"].startswith(f"cynthus-{run_id}-")]


def zone_of(insert: dict[str, Any]) -> str:
    return str(insert["path"].split("/")[6])


def operation(stage: Stage, zone: str, kind: str, name: str) -> datetime:
    """Return when an operation on an instance began, by the cloud's clock."""
    found = cloud_of(stage).operations(zone)
    [one] = [
        o
        for o in found
        if o["operationType"] == kind and o["targetLink"].endswith(f"/instances/{name}")
    ]
    return datetime.fromisoformat(one["insertTime"])


def assert_nothing_is_left(stage: Stage, run_id: str) -> None:
    cloud = cloud_of(stage)
    left = [*cloud.listed("instances"), *cloud.listed("disks"), *cloud.listed("addresses")]
    assert [one["name"] for one in left if run_id in one["name"]] == []


def summary(stage: Stage, name: str, commit: str) -> str:
    # Markdown escapes are for GitHub, not for this comparison.
    return str(wait_for_check(stage, name, commit)["output"]["summary"]).replace("\\", "")


def test_a_preempted_training_goes_on_elsewhere_and_is_released(stage: Stage) -> None:
    resources = f"{L4}, spot: prefer, places: [us-central1-a, us-central1-b]"
    commit = push(stage, "preempted", resources, TRAIN + SAVE)
    run_id = stage.wait_for_run(commit)
    for event in stage.client.follow(run_id):
        if event.kind == "metric" and event.body.get("step") == 2:
            break
    first, second = f"cynthus-{run_id}-1", f"cynthus-{run_id}-2"

    cloud_of(stage).control("POST", f"instances/{first}/preempt", {})

    view = run_to_its_end(stage, commit)
    assert view.outcome == "succeeded", view.reason
    preempted_at = operation(stage, "us-central1-a", "compute.instances.preempted", first)
    again_in = operation(stage, "us-central1-b", "insert", second) - preempted_at
    print(f"preempted to the replacement's insert: {again_in.total_seconds():.2f} s")
    # The target is 2 s, which the bench measures; here it must not have waited for the plug.
    assert again_in.total_seconds() < 25
    assert_preempted_once(view)
    assert_orders_end_by_themselves(inserts(stage, run_id))
    shown = summary(stage, "preempted", commit)
    assert "| 1 | us-central1-a, gcp | g2-standard-4, 1 l4, spot |" in shown
    assert "| 2 | us-central1-b, gcp | g2-standard-4, 1 l4, spot |" in shown
    assert "the instance was taken back by its owner" in shown
    assert "Lost to the infrastructure: " in shown
    release = published_release(stage, "preempted")
    assert release is not None
    assert release["html_url"] == view.release_url
    spec = stage.folder / "sources" / "preempted" / "cynthus.yaml"
    assert_manifest_is_true_of(stage, "preempted", release, commit, spec.read_bytes())
    assert_nothing_is_left(stage, run_id)


def assert_preempted_once(view: RunView) -> None:
    one, two = view.attempts
    assert (one.cause, one.place, one.spot) == ("preempted", "us-central1-a", True)
    assert (two.cause, two.place, two.spot) == ("exit", "us-central1-b", True)
    assert 0 < one.cost_usd < view.cost_usd
    assert one.lost_s > 0
    steps = ["provided", "booted", "driver_ready", "agent_started", "enrolled", "image_pulled"]
    assert {mark.name for mark in one.marks} == {*steps, "first_output"}
    assert [m.at for m in one.marks] == sorted(m.at for m in one.marks)


def assert_orders_end_by_themselves(orders: list[dict[str, Any]]) -> None:
    assert len(orders) == 2
    for order in orders:
        scheduling = order["request"]["scheduling"]
        assert scheduling["provisioningModel"] == "SPOT"
        assert scheduling["instanceTerminationAction"] == "DELETE"
        assert int(scheduling["maxRunDuration"]["seconds"]) > 600


def test_a_server_killed_after_its_order_arrived_adopts_the_instance(stage: Stage) -> None:
    cloud = cloud_of(stage)
    match = {"verb": "compute.instances.insert", "zone": "us-west1-b"}
    cloud.control("POST", "faults", {"kind": "lost", "match": match, "seconds": 10})
    commit = push(stage, "killed", "places: [us-west1-b]", SAVE)
    run_id = stage.wait_for_run(commit)
    [ordered] = wait_for("the order arrived", lambda: machines(stage, run_id))

    assert stage.server.program is not None
    stage.server.program.kill()
    stage.server.start()

    view = run_to_its_end(stage, commit)
    assert view.outcome == "succeeded", view.reason
    assert len(view.attempts) == 1
    orders = inserts(stage, run_id)
    assert {order["request"]["name"] for order in orders} == {ordered["name"]}
    assert_nothing_is_left(stage, run_id)


def test_a_gang_meets_on_two_instances(stage: Stage) -> None:
    commit = push(stage, "gang", "nodes: 2, places: [us-east1-b, us-east1-c]", MEET)

    view = run_to_its_end(stage, commit)

    log = b"".join(stage.client.log(view.id)).decode()
    assert view.outcome == "succeeded", f"{view.reason}\n{log}"
    assert "[rank 1] hello from 0" in log
    assert "[rank 1] NNODES=2 NODE_RANK=1 WORLD_SIZE=2" in log
    assert {zone_of(order) for order in inserts(stage, view.id)} == {"us-east1-b"}
    assert_nothing_is_left(stage, view.id)


def test_a_machine_that_was_kept_warm_serves_the_next_push(stage: Stage) -> None:
    first = push(stage, "warm", f"{L4}, places: [us-west1-a]", SAVE, more="keep_warm: 5m\n")
    before = run_to_its_end(stage, first)
    assert before.outcome == "succeeded", before.reason
    [machine] = [*running(stage, before.id)]
    source = stage.folder / "sources" / "warm"
    (source / "train.py").write_text(SAVE + "print('second push')\n", "utf-8")

    second = stage.push("warm", source, message="Train again")
    after = run_to_its_end(stage, second)

    assert after.outcome == "succeeded", after.reason
    assert "second push" in b"".join(stage.client.log(after.id)).decode()
    assert inserts(stage, after.id) == []
    [attempt] = after.attempts
    assert attempt.warm_run == before.id
    assert [one["name"] for one in machines(stage, before.id)] == [machine]
    assert "kept warm by run" in summary(stage, "warm", second)
    release = published_release(stage, "warm")
    assert release is not None
    assert release["html_url"] == after.release_url


def test_a_machine_without_a_driver_is_the_reason_and_is_deleted(stage: Stage) -> None:
    fault = {"kind": "no_driver", "match": {"zone": "us-east4-a"}}
    cloud_of(stage).control("POST", "faults", fault)
    commit = push(stage, "no-driver", f"{L4}, places: [us-east4-a]", SAVE, attempts=1)

    view = run_to_its_end(stage, commit)
    assert view.outcome == "infrastructure", view.reason
    assert "GPU driver: could not be installed" in (view.reason or "")
    assert "GPU driver: could not be installed" in summary(stage, "no-driver", commit)
    assert_nothing_is_left(stage, view.id)


def test_zones_out_of_stock_are_told_and_the_hint_is_followed(
    stage: Stage, out_of_stock: str
) -> None:
    view = run_to_its_end(stage, out_of_stock)

    assert view.outcome == "succeeded", view.reason
    zones = list(dict.fromkeys(zone_of(order) for order in inserts(stage, view.id)))
    assert zones == ["europe-west4-b", "europe-west4-c", "europe-west4-a"]  # not europe-west1-b
    shown = summary(stage, "out-of-stock", out_of_stock)
    for zone in zones:
        assert f"| {zone}, gcp |" in shown
    assert "europe-west4-b: The zone" in shown
    assert_nothing_is_left(stage, view.id)
