"""Orders that Compute Engine refuses, and how: the simulator may not be kinder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import compute_v1 as gce

from tests.contract.gcp_vms import (
    SCOPE,
    ZONE,
    Compute,
    a_compute,
    boot_disk,
    judged,
    spot,
    standard,
)

Order = dict[str, Any]


@pytest.fixture(scope="module")
def module_compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    with a_compute(tmp_path_factory.mktemp("gcp")) as compute:
        yield compute


@pytest.fixture
def compute(module_compute: Compute) -> Iterator[Compute]:
    with judged(module_compute) as one:
        yield one


def machine(name: str) -> str:
    return f"zones/{ZONE}/machineTypes/{name}"


def gpus(name: str, count: int, zone: str = ZONE) -> list[gce.AcceleratorConfig]:
    url = f"projects/cynthus-sim/zones/{zone}/acceleratorTypes/{name}"
    return [gce.AcceleratorConfig(accelerator_type=url, accelerator_count=count)]


def on(network: str = "global/networks/default", **more: Any) -> list[gce.NetworkInterface]:
    return [gce.NetworkInterface(network=network, **more)]


def account(email: str = "default", scopes: tuple[str, ...] = (SCOPE,)) -> gce.ServiceAccount:
    return gce.ServiceAccount(email=email, scopes=list(scopes))


def user_data(size: int) -> gce.Metadata:
    return gce.Metadata(items=[gce.Items(key="user-data", value="x" * size)])


LATER = "2027-01-01T00:00:00Z"
REFUSED: dict[str, tuple[Order, int, str]] = {
    "capital letters": ({"name": "Vm"}, 400, "resource.name"),
    "long name": ({"name": "a" * 64}, 400, "resource.name"),
    "name ends with a dash": ({"name": "a-"}, 400, "resource.name"),
    "bare machine type": ({"machine_type": "g2-standard-4"}, 400, "malformed"),
    "machine type of another zone": (
        {"machine_type": "zones/us-central1-b/machineTypes/g2-standard-4"},
        400,
        "must be in zone",
    ),
    "no such machine type": ({"machine_type": machine("g2-standard-5")}, 404, "was not found"),
    "not on demand": (
        {"machine_type": machine("a3-highgpu-1g"), "scheduling": standard()},
        400,
        "provisioning model STANDARD",
    ),
    "GPUs that migrate": (
        {"scheduling": standard(on_host_maintenance="MIGRATE")},
        400,
        "do not support live migration",
    ),
    "GPUs that say nothing of maintenance": (
        {"scheduling": gce.Scheduling(automatic_restart=False)},
        400,
        "do not support live migration",
    ),
    "E2 that terminates": (
        {"machine_type": machine("e2-standard-4"), "scheduling": standard()},
        400,
        "E2 machine types",
    ),
    "Spot that restarts": ({"scheduling": spot(automatic_restart=True)}, 400, "AutomaticRestart"),
    "Spot that migrates": (
        {
            "machine_type": machine("e2-standard-4"),
            "scheduling": spot(on_host_maintenance="MIGRATE"),
        },
        400,
        "OnHostMaintenance is MIGRATE",
    ),
    "preemptible and standard": (
        {"scheduling": standard(preemptible=True, automatic_restart=False)},
        400,
        "preemptible",
    ),
    "29 seconds": (
        {"scheduling": spot(max_run_duration=gce.Duration(seconds=29))},
        400,
        "30 seconds",
    ),
    "121 days": (
        {"scheduling": spot(max_run_duration=gce.Duration(seconds=121 * 86400))},
        400,
        "120 days",
    ),
    "a limit without an action": (
        {"scheduling": standard(max_run_duration=gce.Duration(seconds=60))},
        400,
        "instanceTerminationAction must be specified",
    ),
    "an action without a limit": (
        {"scheduling": standard(instance_termination_action="DELETE")},
        400,
        "can only be specified for Spot VMs",
    ),
    "two limits": ({"scheduling": spot(termination_time=LATER)}, 400, "Only one of"),
    "a notice for no Spot": (
        {"scheduling": standard(preemption_notice_duration=gce.Duration(seconds=120))},
        400,
        "preemptionNoticeDuration",
    ),
    "flex start without end": (
        {
            "scheduling": standard(
                provisioning_model="FLEX_START",
                max_run_duration=gce.Duration(seconds=8 * 86400),
                instance_termination_action="DELETE",
            )
        },
        400,
        "7 days",
    ),
    "built-in GPUs, wrongly repeated": (
        {"guest_accelerators": gpus("nvidia-l4", 2)},
        400,
        "not compatible",
    ),
    "a GPU on E2": (
        {
            "machine_type": machine("e2-standard-4"),
            "guest_accelerators": gpus("nvidia-tesla-t4", 1),
        },
        400,
        "not compatible",
    ),
    "three T4": (
        {
            "machine_type": machine("n1-standard-8"),
            "guest_accelerators": gpus("nvidia-tesla-t4", 3),
        },
        400,
        "not compatible",
    ),
    "a host too large for its V100": (
        {
            "machine_type": machine("n1-standard-16"),
            "guest_accelerators": gpus("nvidia-tesla-v100", 1),
        },
        400,
        "at most 12 vCPUs",
    ),
    "no such accelerator here": (
        {
            "machine_type": machine("n1-standard-8"),
            "guest_accelerators": gpus("nvidia-tesla-p100", 1),
        },
        404,
        "acceleratorTypes/nvidia-tesla-p100",
    ),
    "two models": (
        {
            "machine_type": machine("n1-standard-8"),
            "guest_accelerators": gpus("nvidia-tesla-t4", 1) + gpus("nvidia-tesla-v100", 1),
        },
        400,
        "Only one accelerator type",
    ),
    "no disk": ({"disks": []}, 400, "boot disk"),
    "a disk smaller than its image": (
        {"disks": [boot_disk(disk_size_gb=9)]},
        400,
        "smaller than the image",
    ),
    "no such image": (
        {"disks": [boot_disk(source_image="projects/cos-cloud/global/images/family/cos-old")]},
        404,
        "cos-old",
    ),
    "a family named as an image": (
        {"disks": [boot_disk(source_image="projects/cos-cloud/global/images/cos-stable")]},
        404,
        "cos-stable",
    ),
    "bare disk type": ({"disks": [boot_disk(disk_type="pd-ssd")]}, 400, "malformed"),
    "hyperdisk on G2": (
        {"disks": [boot_disk(disk_type=f"zones/{ZONE}/diskTypes/hyperdisk-balanced")]},
        400,
        "cannot be used by g2-standard-4",
    ),
    "no network": ({"network_interfaces": []}, 400, "network interface"),
    "bare network": ({"network_interfaces": on("default")}, 400, "malformed"),
    "no such network": ({"network_interfaces": on("global/networks/lan")}, 404, "lan"),
    "subnetwork of another region": (
        {"network_interfaces": on(subnetwork="regions/us-east1/subnetworks/default")},
        400,
        "subnetwork",
    ),
    "two service accounts": (
        {"service_accounts": [account(), account()]},
        400,
        "At most one service account",
    ),
    "a scope that is no URL": (
        {"service_accounts": [account(scopes=("cloud-platform",))]},
        400,
        "Invalid scope",
    ),
    "an account that is none": ({"service_accounts": [account("runner")]}, 400, "account"),
    "label key in capitals": ({"labels": {"Run": "a"}}, 400, "Label key 'Run'"),
    "label key begins with a digit": ({"labels": {"1run": "a"}}, 400, "Label key"),
    "label value with a dot": ({"labels": {"run": "a.b"}}, 400, "Label value"),
    "65 labels": ({"labels": {f"l{n}": "" for n in range(65)}}, 400, "at most 64"),
    "large user data": ({"metadata": user_data((256 << 10) + 1)}, 400, "too large"),
    "metadata key with a dot": (
        {"metadata": gce.Metadata(items=[gce.Items(key="a.b", value="")])},
        400,
        "key",
    ),
    "metadata key twice": (
        {"metadata": gce.Metadata(items=[gce.Items(key="a", value="")] * 2)},
        400,
        "Duplicate",
    ),
    "a tag with an underscore": ({"tags": gce.Tags(items=["a_b"])}, 400, "tags"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_order_is_refused_before_anything_exists(compute: Compute, case: str) -> None:
    changes, status, words = REFUSED[case]
    with pytest.raises(GoogleAPICallError, match=words) as refused:
        compute.insert(compute.order(**changes))
    assert refused.value.code == status


TAKEN: dict[str, tuple[str, Order]] = {
    "built-in GPUs, exactly repeated": (ZONE, {"guest_accelerators": gpus("nvidia-l4", 1)}),
    "N1 with a T4": (
        ZONE,
        {
            "machine_type": machine("n1-standard-8"),
            "guest_accelerators": gpus("nvidia-tesla-t4", 1),
        },
    ),
    "the largest host of two T4": (
        ZONE,
        {
            "machine_type": machine("n1-standard-32"),
            "guest_accelerators": gpus("nvidia-tesla-t4", 2),
        },
    ),
    "on demand": (ZONE, {"scheduling": standard()}),
    "E2 on Spot": (ZONE, {"machine_type": machine("e2-standard-4")}),
    "E2 on demand": (
        ZONE,
        {"machine_type": machine("e2-standard-4"), "scheduling": gce.Scheduling()},
    ),
    "H100 on Spot": (ZONE, {"machine_type": machine("a3-highgpu-1g")}),
    "letters of any language": (ZONE, {"labels": {"größe": "größer_2-1"}}),
    "as much user data as fits": (ZONE, {"metadata": user_data(256 << 10)}),
    "an external address": (
        ZONE,
        {"network_interfaces": on(access_configs=[gce.AccessConfig(type_="ONE_TO_ONE_NAT")])},
    ),
    "a subnetwork of its region": (
        ZONE,
        {"network_interfaces": on(subnetwork="regions/us-central1/subnetworks/default")},
    ),
    "a full URL": (
        ZONE,
        {
            "machine_type": "https://www.googleapis.com/compute/v1/projects/cynthus-sim/"
            + machine("g2-standard-4")
        },
    ),
    "hyperdisk on G4": (
        "us-central1-b",
        {
            "machine_type": "zones/us-central1-b/machineTypes/g4-standard-48",
            "disks": [
                boot_disk(
                    "us-central1-b", disk_type="zones/us-central1-b/diskTypes/hyperdisk-balanced"
                )
            ],
        },
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_good_order_is_taken(compute: Compute, case: str) -> None:
    zone, changes = TAKEN[case]
    vm = compute.running(zone, **changes)
    assert vm.status == "RUNNING"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.update(colour="red"), 'Unknown name "colour"'),
        (lambda body: body.update(labels=["a"]), "instance.labels"),
        (lambda body: body.update(scheduling={"provisioningModel": "CHEAP"}), "CHEAP"),
        (lambda body: body.update(deletionProtection="yes"), "deletionProtection"),
    ],
)
def test_what_the_parser_cannot_take_is_refused(
    compute: Compute, change: Callable[[Order], None], words: str
) -> None:
    body: Order = {"name": "vm"}
    change(body)
    answer = compute.call("POST", f"/zones/{ZONE}/instances", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
