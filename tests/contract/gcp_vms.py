"""A simulated Compute Engine seen through Google's own clients, every exchange judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import requests
from google.cloud import compute_v1 as gce

from tests.contract.google_description import judge_exchanges
from tests.gcp_fixture import GcpSimulator, gcp_simulator, new_request_id

ZONE = "us-central1-a"
COS = "projects/cos-cloud/global/images/family/cos-stable"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Each step takes ten seconds of the simulator's clock, which only the tests move on.
STEP_S = 10
_numbers = count(1)


class Compute:
    """A running simulator, and the clients of it that a control plane uses."""

    def __init__(self, simulator: GcpSimulator) -> None:
        self.sim = simulator
        self.project = simulator.project
        self.vms = simulator.client(gce.InstancesClient)
        self.operations = simulator.client(gce.ZoneOperationsClient)
        self.disks = simulator.client(gce.DisksClient)
        self._judged = 0

    def reset(self) -> None:
        """Set the usual delays of these tests, a clock that stands, and no faults."""
        self.sim.sim("DELETE", "/faults")
        self.sim.post("/clock", hold=True)
        self.sim.post(
            "/settings", provisioning_s=STEP_S, staging_s=STEP_S, stopping_s=STEP_S, grace_s=0
        )

    def order(self, zone: str = ZONE, **changes: Any) -> gce.Instance:
        """Return a good Spot order of one L4 with a name of its own, changed as wished."""
        usual: dict[str, Any] = {
            "name": f"vm-{next(_numbers)}",
            "machine_type": f"zones/{zone}/machineTypes/g2-standard-4",
            "disks": [boot_disk(zone)],
            "network_interfaces": [gce.NetworkInterface(network="global/networks/default")],
            "scheduling": spot(),
            "service_accounts": [gce.ServiceAccount(email="default", scopes=[SCOPE])],
            "labels": {"cynthus-run": "r1"},
        }
        return gce.Instance(**(usual | changes))

    def insert(
        self, order: gce.Instance, zone: str = ZONE, request_id: str | None = None
    ) -> gce.Operation:
        """Send an order; returns its operation, which is not done."""
        return self.vms.insert_unary(
            request=gce.InsertInstanceRequest(
                project=self.project,
                zone=zone,
                instance_resource=order,
                request_id=request_id or new_request_id(),
            )
        )

    def running(self, zone: str = ZONE, **changes: Any) -> gce.Instance:
        """Return an instance that runs."""
        order = self.order(zone, **changes)
        operation = self.insert(order, zone)
        self.advance(2 * STEP_S)
        assert self.done(operation).error.errors == []
        return self.get(order.name, zone)

    def get(self, name: str, zone: str = ZONE) -> gce.Instance:
        """Return an instance."""
        return self.vms.get(project=self.project, zone=zone, instance=name)

    def delete(self, name: str, zone: str = ZONE) -> gce.Operation:
        """Begin to delete an instance."""
        return self.vms.delete_unary(project=self.project, zone=zone, instance=name)

    def done(self, operation: gce.Operation) -> gce.Operation:
        """Return an operation that has to be done by now."""
        zone = operation.zone.rpartition("/")[2]
        now = self.operations.get(project=self.project, zone=zone, operation=operation.name)
        assert now.status == gce.Operation.Status.DONE
        return now

    def codes(self, operation: gce.Operation) -> list[str]:
        """Return the codes of the errors that an operation ended with."""
        return [error.code for error in self.done(operation).error.errors]

    def advance(self, seconds: float) -> None:
        """Move the simulator's clock."""
        self.sim.post("/clock", advance_s=seconds)

    def told(self, name: str, zone: str = ZONE) -> list[str]:
        """Return what the zone's operations tell of an instance, oldest first."""
        found = self.operations.list(project=self.project, zone=zone)
        mine = [each for each in found if each.target_link.endswith(f"/instances/{name}")]
        return [each.operation_type for each in sorted(mine, key=lambda each: each.insert_time)]

    def names(self, **more: str) -> set[str]:
        """Return the names of all instances in all zones."""
        request = gce.AggregatedListInstancesRequest(project=self.project, **more)
        return {
            each.name
            for _, scoped in self.vms.aggregated_list(request=request)
            for each in scoped.instances
        }

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Send a request as no client would; `path` begins after the project."""
        url = f"{self.sim.url}/compute/v1/projects/{self.project}{path}"
        return requests.request(method, url, timeout=60, **more)

    def problems(self) -> list[str]:
        """Return what Google's descriptions object to since the last time."""
        lines = self.sim.exchanges.read_text().splitlines()
        new, self._judged = lines[self._judged :], len(lines)
        return judge_exchanges(new)


def boot_disk(zone: str = ZONE, **changes: Any) -> gce.AttachedDisk:
    """Return a boot disk of 50 GB."""
    usual: dict[str, Any] = {
        "source_image": COS,
        "disk_size_gb": 50,
        "disk_type": f"zones/{zone}/diskTypes/pd-balanced",
    }
    return gce.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=gce.AttachedDiskInitializeParams(**(usual | changes)),
    )


def spot(**changes: Any) -> gce.Scheduling:
    """Return the scheduling of a Spot instance that is deleted after an hour at most."""
    usual: dict[str, Any] = {
        "provisioning_model": "SPOT",
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,
        "instance_termination_action": "DELETE",
        "max_run_duration": gce.Duration(seconds=3600),
    }
    return gce.Scheduling(**(usual | changes))


def standard(**changes: Any) -> gce.Scheduling:
    """Return the scheduling of an instance on demand, restarted when its host fails."""
    usual: dict[str, Any] = {
        "provisioning_model": "STANDARD",
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": True,
    }
    return gce.Scheduling(**(usual | changes))


@contextlib.contextmanager
def a_compute(folder: Path) -> Iterator[Compute]:
    """Run a simulator with its state in a folder."""
    with gcp_simulator(folder) as simulator:
        compute = Compute(simulator)
        compute.reset()
        yield compute


@contextlib.contextmanager
def judged(compute: Compute) -> Iterator[Compute]:
    """Hold what a test sends and gets against Google's descriptions, then clear its faults."""
    yield compute
    compute.reset()
    assert compute.problems() == []
