"""The simulated Compute Engine on bad days: each fault switch, through Google's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)
from google.auth.exceptions import InvalidOperation
from google.cloud import compute_v1 as gce

from tests.contract.gcp_vms import STEP_S, ZONE, Compute, a_compute, judged, spot, standard
from tests.gcp_fixture import new_request_id

INSERT = {"verb": "compute.instances.insert"}


@pytest.fixture(scope="module")
def module_compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    with a_compute(tmp_path_factory.mktemp("gcp")) as compute:
        yield compute


@pytest.fixture
def compute(module_compute: Compute) -> Iterator[Compute]:
    with judged(module_compute) as one:
        yield one


def failed(compute: Compute, **changes: Any) -> gce.Operation:
    """Return the operation of an order that came to nothing."""
    order = compute.order(**changes)
    operation = compute.insert(order)
    compute.advance(STEP_S)
    with pytest.raises(NotFound):
        compute.get(order.name)
    return compute.done(operation)


# ── no capacity, no quota ────────────────────────────────────────────────────────────────────────


def test_a_stockout_is_told_by_the_operation_alone(compute: Compute) -> None:
    compute.sim.fault("stockout", {"zone": ZONE})
    operation = failed(compute)
    assert operation.http_error_status_code == 503
    (error,) = operation.error.errors
    assert error.code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert f"zones/{ZONE}" in error.message
    assert list(error.error_details) == []


def test_a_stockout_may_name_zones_that_have_it(compute: Compute) -> None:
    compute.sim.fault("stockout", details=True, zones=["us-central1-b", "us-central1-c"])
    (error,) = failed(compute).error.errors
    assert error.code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    text, info = error.error_details
    assert "us-central1-b" in text.localized_message.message
    assert info.error_info.reason == "resource_availability"
    assert info.error_info.metadatas["zonesAvailable"] == "us-central1-b,us-central1-c"
    assert info.error_info.metadatas["vmType"] == "g2-standard-4"


@pytest.mark.parametrize(
    "code", ["REGION_RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED", "GPU_STOCKOUT"]
)
def test_a_stockout_has_other_names(compute: Compute, code: str) -> None:
    compute.sim.fault("stockout", code=code)
    assert [error.code for error in failed(compute).error.errors] == [code]


def test_a_stockout_strikes_what_it_is_for(compute: Compute) -> None:
    match = {"zone": "us-central1-a", "machine_type": "g2-.*", "spot": "true"}
    compute.sim.fault("stockout", match, times=-1)
    failed(compute)
    compute.running("us-central1-b")
    compute.running(scheduling=standard())
    compute.running(machine_type=f"zones/{ZONE}/machineTypes/e2-standard-4")
    (fault,) = compute.sim.sim("GET", "/faults")
    assert fault["struck"] == 1


def test_a_failed_start_can_leave_a_stopped_instance(compute: Compute) -> None:
    compute.sim.fault("stockout", leaves="stopped")
    order = compute.order()
    operation = compute.insert(order)
    compute.advance(STEP_S)
    assert compute.codes(operation) == ["ZONE_RESOURCE_POOL_EXHAUSTED"]
    assert compute.get(order.name).status == "TERMINATED"


def test_a_failed_insert_can_leave_a_running_instance(compute: Compute) -> None:
    compute.sim.fault("insert_fails", leaves="running")
    order = compute.order()
    operation = compute.insert(order)
    compute.advance(STEP_S)
    assert compute.codes(operation) == ["RESOURCE_NOT_FOUND"]
    assert compute.get(order.name).status == "RUNNING"


def test_a_quota_that_is_used_up_fails_the_operation(compute: Compute) -> None:
    region, metric = "us-west1", "PREEMPTIBLE_NVIDIA_L4_GPUS"
    compute.sim.post("/quotas", region=region, metric=metric, limit=1)
    compute.running("us-west1-a")
    operation = compute.insert(compute.order("us-west1-b"), "us-west1-b")
    compute.advance(STEP_S)
    (error,) = compute.done(operation).error.errors
    assert error.code == "QUOTA_EXCEEDED"
    assert error.message == f"Quota '{metric}' exceeded.  Limit: 1.0 in region {region}."
    assert error.error_details[0].quota_info.limit == 1


def test_a_stopped_instance_needs_its_quota_again(compute: Compute) -> None:
    zone = "us-west4-a"
    vm = compute.running(zone)
    where = {"project": compute.project, "zone": zone, "instance": vm.name}
    compute.vms.stop_unary(**where)
    compute.advance(STEP_S)
    quota = {"region": "us-west4", "metric": "PREEMPTIBLE_NVIDIA_L4_GPUS"}
    compute.sim.post("/quotas", quota, limit=0)
    operation = compute.vms.start_unary(**where)
    compute.advance(STEP_S)
    assert compute.codes(operation) == ["QUOTA_EXCEEDED"]
    assert compute.get(vm.name, zone).status == "TERMINATED"


def test_a_global_quota_says_so(compute: Compute) -> None:
    compute.sim.fault("quota", {}, **{"global": True})
    (error,) = failed(compute).error.errors
    assert error.message == "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."


def test_a_quota_can_be_told_at_once(compute: Compute) -> None:
    compute.sim.fault("quota", INSERT, answer="http")
    with pytest.raises(Forbidden, match="PREEMPTIBLE_NVIDIA_L4_GPUS") as refused:
        compute.insert(compute.order())
    assert refused.value.errors[0]["reason"] == "quotaExceeded"


def test_models_without_a_metric_are_limited_all_the_same(compute: Compute) -> None:
    metric = "GPUS-PER-GPU-FAMILY-per-project-region/nvidia-h100-80gb"
    compute.sim.post("/quotas", region="us-central1", metric=metric, limit=0)
    operation = failed(compute, machine_type=f"zones/{ZONE}/machineTypes/a3-highgpu-1g")
    assert operation.error.errors[0].code == "QUOTA_EXCEEDED"


# ── answers that are errors, late or lost ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"code": 429, "reason": "rateLimitExceeded", "message": "slow"}, TooManyRequests),
        ({"code": 503, "reason": "backendError", "message": "again"}, ServiceUnavailable),
        ({"code": 403, "reason": "forbidden", "message": "may not"}, Forbidden),
        # The client tries to refresh its credentials first, and these cannot.
        ({"code": 401, "reason": "authError", "message": "who"}, InvalidOperation),
    ],
)
def test_an_answer_can_be_an_error(
    compute: Compute, answer: dict[str, Any], kind: type[Exception]
) -> None:
    compute.sim.fault("error", INSERT, **answer)
    order = compute.order()
    with pytest.raises(kind):
        compute.insert(order)
    assert order.name not in compute.names()


@pytest.mark.parametrize("effect", [True, False])
def test_an_answer_can_be_lost(compute: Compute, effect: bool) -> None:
    compute.sim.fault("lost", INSERT, effect=effect)
    order, request_id = compute.order(), new_request_id()
    with pytest.raises(requests.exceptions.ConnectionError):
        compute.insert(order, request_id=request_id)
    assert (order.name in compute.names()) == effect
    compute.insert(order, request_id=request_id)  # the same request again: one instance
    assert compute.names(filter=f"name={order.name}") == {order.name}


def test_an_effect_can_be_late(compute: Compute) -> None:
    compute.sim.fault("late", INSERT, seconds=120)
    order = compute.order()
    with pytest.raises(requests.exceptions.ConnectionError):
        compute.insert(order)
    compute.advance(119)
    assert order.name not in compute.names()
    compute.advance(1)
    assert order.name in compute.names()


def test_a_late_effect_of_a_request_that_was_repeated_is_one_instance(compute: Compute) -> None:
    compute.sim.fault("late", INSERT, seconds=60, code=503, message="try again")
    order, request_id = compute.order(), new_request_id()
    with pytest.raises(ServiceUnavailable):
        compute.insert(order, request_id=request_id)
    operation = compute.insert(order, request_id=request_id)
    compute.advance(60)
    assert compute.codes(operation) == []
    assert compute.told(order.name) == ["insert"]


def test_an_instance_can_be_invisible_at_first(compute: Compute) -> None:
    compute.sim.fault("invisible", seconds=5)
    order = compute.order()
    compute.insert(order)
    with pytest.raises(NotFound):
        compute.get(order.name)
    assert order.name not in compute.names()
    compute.advance(5)
    assert order.name in compute.names()


@pytest.mark.parametrize("effect", [True, False])
def test_an_operation_can_be_stuck(compute: Compute, effect: bool) -> None:
    compute.sim.fault("stuck", INSERT, status="PENDING", seconds=1200, effect=effect)
    order = compute.order()
    operation = compute.insert(order)
    compute.advance(1000)
    where = {"project": compute.project, "zone": ZONE, "operation": operation.name}
    assert compute.operations.get(**where).status == gce.Operation.Status.PENDING
    assert (order.name in compute.names()) == effect
    compute.advance(200)
    assert bool(compute.codes(operation)) == (not effect)


# ── lists that are not whole ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("warning", [True, False])
def test_a_list_can_lack_a_zone(compute: Compute, warning: bool) -> None:
    here, there = compute.running(), compute.running("us-central1-b")
    compute.sim.fault("partial_list", zones=[ZONE], warning=warning)
    found = compute.vms.aggregated_list(project=compute.project)
    page = next(iter(found.pages))
    names = {vm.name for each in page.items.values() for vm in each.instances}
    assert there.name in names
    assert here.name not in names
    assert list(page.unreachables) == ([f"zones/{ZONE}"] if warning else [])
    if warning:
        assert page.items[f"zones/{ZONE}"].warning.code == "UNREACHABLE"


def test_a_second_page_can_fail(compute: Compute) -> None:
    compute.running()
    compute.running()
    compute.sim.fault(
        "error", {"verb": "compute.instances.aggregatedList", "query": "pageToken=."}, code=400
    )
    request = gce.AggregatedListInstancesRequest(project=compute.project, max_results=1)
    with pytest.raises(GoogleAPICallError):
        list(compute.vms.aggregated_list(request=request))


# ── deletes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_delete_can_be_refused_at_once_or_later(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.fault("error", {"verb": "compute.instances.delete"}, code=403, reason="forbidden")
    with pytest.raises(Forbidden):
        compute.delete(vm.name)
    compute.sim.fault("delete_fails", {"name": vm.name})
    operation = compute.delete(vm.name)
    compute.advance(STEP_S)
    assert compute.codes(operation) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    assert compute.get(vm.name).status == "RUNNING"


def test_a_delete_can_leave_the_disk(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.fault("leaves_disk", {"name": vm.name})
    compute.delete(vm.name)
    compute.advance(STEP_S)
    assert vm.name not in compute.names()
    assert compute.disks.get(project=compute.project, zone=ZONE, disk=vm.name).size_gb == 50


def test_a_delete_can_leave_an_address(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.fault("leaves_address", {"name": vm.name})
    compute.delete(vm.name)
    addresses = compute.sim.client(gce.AddressesClient)
    left = addresses.get(project=compute.project, region="us-central1", address=vm.name)
    assert dict(left.labels) == dict(vm.labels)


# ── what the cloud does by itself ────────────────────────────────────────────────────────────────


def test_a_preempted_instance_is_deleted_and_the_operations_say_why(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.post(f"/instances/{vm.name}/preempt")
    assert compute.get(vm.name).status == "STOPPING"
    compute.advance(STEP_S)
    with pytest.raises(NotFound):
        compute.get(vm.name)
    assert compute.told(vm.name) == ["insert", "compute.instances.preempted"]


def test_a_preempted_instance_is_stopped_where_that_was_asked(compute: Compute) -> None:
    vm = compute.running(scheduling=spot(instance_termination_action="STOP"))
    compute.sim.post(f"/instances/{vm.name}/preempt")
    compute.advance(STEP_S)
    assert compute.get(vm.name).status == "TERMINATED"


def test_a_notice_asked_for_comes_before_the_power_button(compute: Compute) -> None:
    vm = compute.running(scheduling=spot(preemption_notice_duration=gce.Duration(seconds=120)))
    compute.sim.post(f"/instances/{vm.name}/preempt")
    compute.advance(119)
    assert compute.get(vm.name).status == "RUNNING"
    compute.advance(1)
    assert compute.get(vm.name).status == "STOPPING"


def test_an_instance_can_be_preempted_while_it_starts(compute: Compute) -> None:
    order = compute.order()
    operation = compute.insert(order)
    compute.sim.post(f"/instances/{order.name}/preempt")
    assert compute.codes(operation) == ["PREEMPTED"]
    assert compute.get(order.name).status == "TERMINATED"
    assert compute.told(order.name) == ["insert", "compute.instances.preempted"]


def test_only_spot_instances_are_preempted(compute: Compute) -> None:
    vm = compute.running(scheduling=standard())
    with pytest.raises(RuntimeError, match="no Spot instance"):
        compute.sim.post(f"/instances/{vm.name}/preempt")


def test_a_host_error_restarts_or_stops(compute: Compute) -> None:
    spot_one, standard_one = compute.running(), compute.running(scheduling=standard())
    for vm in (spot_one, standard_one):
        compute.sim.post(f"/instances/{vm.name}/host_error")
    compute.advance(3 * STEP_S)
    assert compute.get(spot_one.name).status == "TERMINATED"
    assert compute.get(standard_one.name).status == "RUNNING"
    assert compute.told(standard_one.name)[1:] == [
        "compute.instances.hostError",
        "compute.instances.automaticRestart",
    ]


def test_maintenance_ends_an_instance_with_gpus_after_its_notice(compute: Compute) -> None:
    vm = compute.running(scheduling=standard(automatic_restart=False))
    where = {"project": compute.project, "zone": ZONE, "instance": vm.name}
    compute.vms.simulate_maintenance_event_unary(**where)
    compute.advance(59)
    assert compute.get(vm.name).status == "RUNNING"
    compute.advance(1 + STEP_S)
    assert compute.get(vm.name).status == "TERMINATED"
    assert compute.told(vm.name)[-1] == "compute.instances.terminateOnHostMaintenance"


def test_an_instance_that_switches_itself_off_is_terminated(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.post(f"/instances/{vm.name}/guest_off")
    assert compute.get(vm.name).status == "TERMINATED"
    assert compute.told(vm.name) == ["insert", "compute.instances.guestTerminate"]


def test_an_instance_can_vanish_without_a_word(compute: Compute) -> None:
    vm = compute.running()
    compute.sim.post(f"/instances/{vm.name}/vanish")
    with pytest.raises(NotFound):
        compute.get(vm.name)
    assert compute.told(vm.name) == ["insert"]


# ── the switches themselves ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "wish", [{"kind": "earthquake"}, {"kind": "stockout", "match": {"zone": "("}}, {}]
)
def test_a_fault_that_is_none_is_refused(compute: Compute, wish: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="400"):
        compute.sim.sim("POST", "/faults", wish)


def test_a_wish_that_cannot_be_understood_is_refused(compute: Compute) -> None:
    vm = compute.running()
    with pytest.raises(RuntimeError, match="could not be understood"):
        compute.sim.post(f"/instances/{vm.name}/write", path="instance/preempted")
    with pytest.raises(RuntimeError, match="earthquake"):
        compute.sim.post(f"/instances/{vm.name}/earthquake")


def test_a_fault_can_let_some_pass_first(compute: Compute) -> None:
    compute.sim.fault("stockout", after=1, times=1)
    operations = [compute.insert(compute.order()) for _ in range(3)]
    compute.advance(2 * STEP_S)
    assert [bool(compute.codes(each)) for each in operations] == [False, True, False]
