"""The simulated Compute Engine on good days, through Google's own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud import compute_v1 as gce

from tests.contract.gcp_vms import STEP_S, ZONE, Compute, a_compute, boot_disk, judged, standard
from tests.gcp_fixture import new_request_id


@pytest.fixture(scope="module")
def module_compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    with a_compute(tmp_path_factory.mktemp("gcp")) as compute:
        yield compute


@pytest.fixture
def compute(module_compute: Compute) -> Iterator[Compute]:
    with judged(module_compute) as one:
        yield one


def test_an_instance_comes_up_step_by_step(compute: Compute) -> None:
    order = compute.order()
    operation = compute.insert(order)
    seen = [compute.get(order.name).status]
    for _ in range(2):
        compute.advance(STEP_S)
        seen.append(compute.get(order.name).status)
    assert seen == ["PROVISIONING", "STAGING", "RUNNING"]
    assert compute.done(operation).operation_type == "insert"
    assert compute.done(operation).progress == 100


def test_a_running_instance_shows_what_was_left_out(compute: Compute) -> None:
    vm = compute.running()
    assert vm.guest_accelerators[0].accelerator_type.endswith("/acceleratorTypes/nvidia-l4")
    assert vm.scheduling.preemptible
    assert vm.disks[0].source.endswith(f"/disks/{vm.name}")
    assert vm.network_interfaces[0].network_i_p.startswith("10.")
    assert list(vm.network_interfaces[0].access_configs) == []
    assert vm.service_accounts[0].email.endswith("@developer.gserviceaccount.com")
    assert vm.resource_status.scheduling.termination_timestamp


def test_deletion_ends_with_not_found_and_takes_the_disk_along(compute: Compute) -> None:
    vm = compute.running()
    operation = compute.delete(vm.name)
    assert compute.get(vm.name).status == "STOPPING"
    compute.advance(STEP_S)
    assert compute.codes(operation) == []
    with pytest.raises(NotFound):
        compute.get(vm.name)
    with pytest.raises(NotFound):
        compute.disks.get(project=compute.project, zone=ZONE, disk=vm.name)
    with pytest.raises(NotFound):
        compute.delete(vm.name)


def test_a_disk_that_is_to_stay_stays(compute: Compute) -> None:
    disk = boot_disk()
    disk.auto_delete = False
    vm = compute.running(disks=[disk])
    with pytest.raises(BadRequest, match="already being used"):
        compute.disks.delete_unary(project=compute.project, zone=ZONE, disk=vm.name)
    compute.delete(vm.name)
    compute.advance(STEP_S)
    assert list(compute.disks.get(project=compute.project, zone=ZONE, disk=vm.name).users) == []
    compute.disks.delete_unary(project=compute.project, zone=ZONE, disk=vm.name)
    compute.advance(STEP_S)
    with pytest.raises(NotFound):
        compute.disks.get(project=compute.project, zone=ZONE, disk=vm.name)


def test_the_same_request_twice_is_one_operation(compute: Compute) -> None:
    order, request_id = compute.order(), new_request_id()
    first = compute.insert(order, request_id=request_id)
    again = compute.insert(order, request_id=request_id)
    assert first.name == again.name
    assert first.client_operation_id == request_id
    with pytest.raises(Conflict):
        compute.insert(order)


def test_a_request_id_of_another_order_is_refused(compute: Compute) -> None:
    request_id = new_request_id()
    compute.insert(compute.order(), request_id=request_id)
    with pytest.raises(BadRequest, match="requestId"):
        compute.insert(compute.order(), request_id=request_id)


@pytest.mark.parametrize("request_id", ["abc", "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_is_a_uuid(compute: Compute, request_id: str) -> None:
    with pytest.raises(BadRequest, match="requestId"):
        compute.insert(compute.order(), request_id=request_id)


def test_waiting_for_an_operation_holds_until_it_is_done(compute: Compute) -> None:
    operation = compute.insert(compute.order())
    waited: list[gce.Operation] = []

    def wait() -> None:
        waited.append(
            compute.operations.wait(project=compute.project, zone=ZONE, operation=operation.name)
        )

    thread = threading.Thread(target=wait)
    thread.start()
    compute.advance(2 * STEP_S)
    thread.join(timeout=60)
    assert [each.status for each in waited] == [gce.Operation.Status.DONE]


def test_waiting_ends_at_its_limit_with_whatever_there_is(compute: Compute) -> None:
    compute.sim.post("/settings", longest_wait_s=0.2)
    operation = compute.insert(compute.order())
    start = time.monotonic()
    seen = compute.operations.wait(project=compute.project, zone=ZONE, operation=operation.name)
    assert time.monotonic() - start >= 0.2
    assert seen.status == gce.Operation.Status.RUNNING


def test_the_time_limit_deletes(compute: Compute) -> None:
    vm = compute.running()
    compute.advance(3599 + STEP_S)
    assert compute.get(vm.name).status == "STOPPING"
    compute.advance(STEP_S)
    with pytest.raises(NotFound):
        compute.get(vm.name)
    assert compute.told(vm.name) == ["insert", "compute.instances.deferredDelete"]


def test_the_time_limit_begins_anew_with_every_start(compute: Compute) -> None:
    vm = compute.running()
    where = {"project": compute.project, "zone": ZONE, "instance": vm.name}
    compute.advance(3000)
    compute.vms.stop_unary(**where)
    compute.advance(STEP_S)
    assert compute.get(vm.name).status == "TERMINATED"
    compute.vms.start_unary(**where)
    compute.advance(3000)
    assert compute.get(vm.name).status == "RUNNING"


def test_an_end_on_a_date_stops(compute: Compute) -> None:
    end = compute.sim.post("/clock", advance_s=0)["now"] + 600
    when = datetime.fromtimestamp(end, UTC).isoformat()
    vm = compute.running(
        scheduling=standard(termination_time=when, instance_termination_action="STOP")
    )
    compute.advance(600 - 2 * STEP_S)
    compute.advance(STEP_S + 1)  # the date was rounded to whole microseconds
    assert compute.get(vm.name).status == "TERMINATED"
    assert compute.told(vm.name) == ["insert", "compute.instances.deferredStop"]


def test_stop_and_suspend_keep_the_instance(compute: Compute) -> None:
    vm = compute.running(
        machine_type=f"zones/{ZONE}/machineTypes/e2-standard-4",
        scheduling=gce.Scheduling(on_host_maintenance="MIGRATE"),
    )
    where = {"project": compute.project, "zone": ZONE, "instance": vm.name}
    compute.vms.suspend_unary(**where)
    compute.advance(STEP_S)
    assert compute.get(vm.name).status == "SUSPENDED"
    compute.vms.resume_unary(**where)
    compute.advance(STEP_S)
    assert compute.get(vm.name).status == "RUNNING"
    with pytest.raises(BadRequest, match="start is not possible"):
        compute.vms.start_unary(**where)
    compute.vms.stop_unary(**where)
    compute.advance(STEP_S)
    assert compute.get(vm.name).status == "TERMINATED"
    compute.delete(vm.name)
    compute.advance(STEP_S)
    assert vm.name not in compute.names()


def test_an_instance_with_gpus_cannot_be_suspended(compute: Compute) -> None:
    vm = compute.running()
    with pytest.raises(BadRequest, match="accelerators"):
        compute.vms.suspend_unary(project=compute.project, zone=ZONE, instance=vm.name)


def test_labels_are_set_by_those_who_have_seen_them(compute: Compute) -> None:
    vm = compute.running()
    for print_ in (vm.label_fingerprint, "AAAAAAAAAAA="):
        wish = gce.InstancesSetLabelsRequest(labels={"a": "b"}, label_fingerprint=print_)
        request = gce.SetLabelsInstanceRequest(
            project=compute.project,
            zone=ZONE,
            instance=vm.name,
            instances_set_labels_request_resource=wish,
        )
        if print_ == vm.label_fingerprint:
            compute.vms.set_labels_unary(request=request)
            continue
        with pytest.raises(PreconditionFailed):
            compute.vms.set_labels_unary(request=request)
    assert dict(compute.get(vm.name).labels) == {"a": "b"}


def test_metadata_are_set_by_those_who_have_seen_them(compute: Compute) -> None:
    vm = compute.running()
    wish = gce.Metadata(
        fingerprint=vm.metadata.fingerprint, items=[gce.Items(key="user-data", value="#!/bin/sh")]
    )
    where = {"project": compute.project, "zone": ZONE, "instance": vm.name}
    compute.vms.set_metadata_unary(metadata_resource=wish, **where)
    assert compute.get(vm.name).metadata.items[0].value == "#!/bin/sh"
    with pytest.raises(PreconditionFailed):
        compute.vms.set_metadata_unary(metadata_resource=wish, **where)


@pytest.mark.parametrize(
    "text",
    [
        "labels.cynthus-plane={mark}",
        'labels.cynthus-plane = "{mark}"',
        "(labels.cynthus-plane = {mark}) (status = PROVISIONING)",
        "labels.cynthus-plane={mark} AND name:vm-*",
        "name eq vm-.* AND labels.cynthus-plane={mark}",
        "labels.cynthus-plane:* AND NOT labels.cynthus-plane!={mark}",
        "(name = nobody OR labels.cynthus-plane={mark})",
    ],
)
def test_lists_are_filtered(compute: Compute, text: str) -> None:
    mark = new_request_id()[:8]
    order = compute.order(labels={"cynthus-plane": mark})
    compute.insert(order)
    compute.insert(compute.order(labels={"cynthus-plane": f"{mark}x"}))
    assert compute.names(filter=text.format(mark=mark)) == {order.name}


@pytest.mark.parametrize("text", ["name =", "= a", "name a", "(name = a", "name eq ["])
def test_a_bad_filter_is_refused(compute: Compute, text: str) -> None:
    with pytest.raises(BadRequest, match="Invalid list filter expression"):
        compute.names(filter=text)


def test_pages_show_everything_once(compute: Compute) -> None:
    mark = new_request_id()[:8]
    made = set()
    for zone in ("us-central1-a", "us-central1-b"):
        for _ in range(3):
            order = compute.order(zone, labels={"page": mark})
            compute.insert(order, zone)
            made.add(order.name)
    request = gce.AggregatedListInstancesRequest(
        project=compute.project, filter=f"labels.page={mark}", max_results=2
    )
    pages = list(compute.vms.aggregated_list(request=request).pages)
    assert len(pages) == 3
    assert {vm.name for page in pages for each in page.items.values() for vm in each.instances} == (
        made
    )
    with pytest.raises(BadRequest, match="pageToken"):
        compute.names(page_token="what is this")


def test_what_does_not_exist_is_not_found(compute: Compute) -> None:
    for path in (
        "/zones/us-central1-x/instances",
        "/zones/us-central1-a/instances/nobody",
        "/zones/us-central1-a/operations/nothing",
        "/zones/us-central1-f/machineTypes/a3-highgpu-8g",
        "/regions/mars-north1",
    ):
        answer = compute.call("GET", path)
        assert answer.status_code == 404
        assert answer.json()["error"]["errors"][0]["reason"] == "notFound"
    assert compute.call("GET", "/zones/us-central1-a/teapots").status_code == 404
    with pytest.raises(NotFound, match="projects/another"):
        list(compute.vms.list(project="another", zone=ZONE))


def test_the_catalogue_is_what_the_facts_say(compute: Compute) -> None:
    types = compute.sim.client(gce.MachineTypesClient)
    a3 = types.get(project=compute.project, zone=ZONE, machine_type="a3-highgpu-8g")
    assert (a3.guest_cpus, a3.memory_mb) == (208, 1872 * 1024)
    assert a3.accelerators[0].guest_accelerator_type == "nvidia-h100-80gb"
    request = gce.AggregatedListAcceleratorTypesRequest(
        project=compute.project, filter="name = nvidia-l4"
    )
    found = compute.sim.client(gce.AcceleratorTypesClient).aggregated_list(request=request)
    places = {scope for scope, each in found if each.accelerator_types}
    assert {"zones/us-central1-a", "zones/europe-west4-b"} <= places
    assert "zones/us-central1-f" not in places
    image = compute.sim.client(gce.ImagesClient)
    assert image.get_from_family(project="cos-cloud", family="cos-stable").disk_size_gb == 10
    assert len(list(compute.sim.client(gce.ZonesClient).list(project=compute.project))) > 100


def test_quotas_count_the_instances_that_live(compute: Compute) -> None:
    def used() -> float:
        region = compute.sim.client(gce.RegionsClient).get(
            project=compute.project, region="europe-west4"
        )
        metric = "PREEMPTIBLE_NVIDIA_L4_GPUS"
        return sum(quota.usage for quota in region.quotas if quota.metric == metric)

    assert used() == 0
    zone = "europe-west4-a"
    vm = compute.running(zone)
    assert used() == 1
    compute.delete(vm.name, zone)
    compute.advance(STEP_S)
    assert used() == 0


def test_an_address_is_reserved_and_given_back(compute: Compute) -> None:
    addresses = compute.sim.client(gce.AddressesClient)
    where = {"project": compute.project, "region": "us-central1"}
    addresses.insert_unary(
        address_resource=gce.Address(name="left-over", labels={"a": "b"}), **where
    )
    found = addresses.aggregated_list(project=compute.project)
    assert [one.name for _, each in found for one in each.addresses] == ["left-over"]
    operation = addresses.delete_unary(address="left-over", **where)
    compute.advance(STEP_S)
    done = compute.sim.client(gce.RegionOperationsClient).wait(operation=operation.name, **where)
    assert done.status == gce.Operation.Status.DONE
    assert list(addresses.list(**where)) == []


def test_a_disk_can_be_made_alone(compute: Compute) -> None:
    where = {"project": compute.project, "zone": ZONE}
    compute.disks.insert_unary(disk_resource=gce.Disk(name="alone", size_gb=20), **where)
    assert compute.disks.get(disk="alone", **where).size_gb == 20
    with pytest.raises(Conflict):
        compute.disks.insert_unary(disk_resource=gce.Disk(name="alone"), **where)
    with pytest.raises(Conflict, match="disks/alone"):
        compute.insert(compute.order(name="alone"))


def test_the_serial_port_is_there(compute: Compute) -> None:
    vm = compute.running()
    said = compute.vms.get_serial_port_output(project=compute.project, zone=ZONE, instance=vm.name)
    assert (said.contents, said.next_) == ("", 0)


def test_a_protected_instance_stays(compute: Compute) -> None:
    vm = compute.running(deletion_protection=True)
    with pytest.raises(BadRequest, match="protected"):
        compute.delete(vm.name)


def test_deleting_twice_ends_both_operations(compute: Compute) -> None:
    vm = compute.running()
    both = [compute.delete(vm.name), compute.delete(vm.name)]
    compute.advance(STEP_S)
    assert [compute.codes(each) for each in both] == [[], []]


def test_deleting_what_is_only_starting_ends_both_operations(compute: Compute) -> None:
    order = compute.order(scheduling=standard())
    inserted = compute.insert(order)
    deleted = compute.delete(order.name)
    compute.advance(STEP_S)
    assert (compute.codes(inserted), compute.codes(deleted)) == ([], [])


def test_everything_survives_a_power_cut_of_the_simulator(tmp_path: Path) -> None:
    with a_compute(tmp_path) as compute:
        vm = compute.running()
        starting = compute.order()
        operation = compute.insert(starting)
        compute.sim.fault("stockout", times=-1)
        compute.sim.kill()
        compute.sim.start()
        compute.advance(2 * STEP_S)
        assert compute.get(vm.name).id == vm.id
        assert compute.get(starting.name).status == "RUNNING"
        assert compute.codes(operation) == []
        assert [fault["kind"] for fault in compute.sim.sim("GET", "/faults")] == ["stockout"]
        assert compute.problems() == []
