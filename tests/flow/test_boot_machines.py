"""Our user data on machines that boot it for real: systemd, Docker, a registry, the real agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus.wire import Gang, Rendezvous
from runner_images.agent.package import build
from simulators.gcp_machines import Played
from simulators.gcp_namespaces import Namespaces
from tests.contract.gcp_machines_fixture import (
    a_machine,
    eventually,
    is_off,
    namespaces,
    run_in,
    says,
)
from tests.docker_fixture import tree
from tests.fake_control_plane import ControlPlane, a_work
from tests.flow.test_agent_gang import MEET
from tests.registry_fixture import Registry, a_registry
from tests.stopwatch import Stopwatch
from webhook_server.providers.gcp_boot import BootConfig, BootKind, user_data

pytestmark = pytest.mark.slow
MEMORY = {"memory_bytes": 1 << 30, "disk_bytes": 3 << 30}


@dataclass(frozen=True)
class Cloud:
    """Machines, the registry that they pull from, and two control planes in their reach."""

    machines: Namespaces
    agent_image: str
    work_image: str
    root_image: str  # the same under a name for its root that nobody would look for
    planes: tuple[ControlPlane, ...]

    def boot(self, name: str, number: int = 0, **config: Any) -> ControlPlane:
        """Boot a machine with our user data for the plane of this number."""
        plane = self.planes[number]
        plane.identity = f"{name}|{plane.url}|full"
        machine = config.pop("machine", {})
        config = {"agent_image": self.agent_image, **config}
        boot = BootConfig(server_url=plane.url, control_plane="test-plane", **config)
        text = user_data(name, timedelta(hours=1), boot)
        self.machines.boot(a_machine(name, text, **{**MEMORY, **machine}))
        return plane

    def order(self, number: int = 0, **work: Any) -> None:
        plane = self.planes[number]
        plane.work = a_work(**{"image": self.work_image, **work})
        plane.beats, plane.enrolments, plane.past = [], [], []
        plane.rendezvous, plane.next_answers, plane.heartbeat_s = None, [], 1.0

    def wait(self, name: str, plane: ControlPlane, check: Callable[[], bool]) -> None:
        try:
            plane.wait(check, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machines.serial(name)[-3000:]}") from None


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cloud")
        registry: Registry = stack.enter_context(a_registry(folder))
        planes = tuple(stack.enter_context(ControlPlane(a_work())) for _ in range(2))
        ports = [int(registry.host.rpartition(":")[2])]
        ports += [int(plane.url.rpartition(":")[2]) for plane in planes]
        machines = namespaces(folder, ports)
        stack.callback(machines.close)
        machines.sign_identity(lambda name, audience, form: f"{name}|{audience}|{form}")
        machines.issue_token(lambda name: {"access_token": f"of-{name}", "expires_in": 3599})
        pyz = build(folder / "agent.pyz")
        planes[0].agent_pyz = pyz.read_bytes()
        agent = registry.push(
            "cynthus/agent",
            tree({"agent.pyz": pyz}),
            Entrypoint=["/usr/bin/python3", "/agent.pyz"],
            Env=["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1"],
        )
        work = registry.push("acme/train", tree(), Env=["PATH=/usr/bin:/bin"], User="1000")
        root = registry.push("acme/root", tree(), Env=["PATH=/usr/bin:/bin"], User="00")
        yield Cloud(machines, agent, work, root, planes)


def done(plane: ControlPlane) -> bool:
    return bool(plane.beats) and plane.beats[-1]["state"] == "done"


ASK_METADATA = """
import os, socket
print("user", os.getuid())
try:
    socket.create_connection(("169.254.169.254", 80), timeout=3)
    print("metadata reached")
except OSError as error:
    print("metadata closed", error.errno)
"""
LOOK_AT_GPUS = """
import ctypes, os
n = ctypes.c_uint()
nvml = ctypes.CDLL("libnvidia-ml.so.1")
nvml.nvmlInit_v2()
nvml.nvmlDeviceGetCount_v2(ctypes.byref(n))
print("library", n.value, sorted(d for d in os.listdir("/dev") if d.startswith("nvidia")))
"""


def test_a_machine_boots_into_an_agent_that_runs_its_work_and_then_stops(cloud: Cloud) -> None:
    cloud.order(command=("python3", "-c", ASK_METADATA + LOOK_AT_GPUS), gpu_count=1)
    began = time.monotonic()
    gpus = {"gpus": 2, "gpu_model": "NVIDIA L4"}
    plane = cloud.boot("m1", gpu_count=2, driver="580", machine=gpus)
    cloud.wait("m1", plane, lambda: bool(plane.enrolments))
    enrolled_s = time.monotonic() - began
    cloud.wait("m1", plane, lambda: done(plane))
    took_s = time.monotonic() - began
    print(f"enrolled {enrolled_s:.1f} s, done {took_s:.1f} s after the order")
    facts = plane.enrolments[0]["facts"]
    assert [gpu["model"] for gpu in facts["gpus"]] == ["NVIDIA L4"] * 2
    assert facts["driver"].startswith("580")  # as promised
    assert facts["address"].startswith("10.128.")
    names = [mark["name"] for mark in facts["marks"]]
    assert names == ["booted", "driver_ready", "agent_started"]
    assert plane.exit["code"] == 0, plane.log
    assert "metadata closed" in plane.log
    one = "['nvidia-uvm', 'nvidia0', 'nvidiactl']"
    assert one in plane.log or one.replace("nvidia0", "nvidia1") in plane.log
    assert [mark["name"] for mark in plane.events("mark")] == ["image_pulled", "first_output"]
    is_off(cloud.machines, "m1")  # it only costs from there on
    cloud.machines.remove("m1")


UBUNTU = "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404"


def test_an_accelerator_image_fetches_the_agent_from_the_server(cloud: Cloud) -> None:
    cloud.order(command=("python3", "-c", ASK_METADATA + LOOK_AT_GPUS), gpu_count=1)
    machine = {"gpus": 2, "gpu_model": "NVIDIA L4", "boot_image": UBUNTU}
    plane = cloud.boot("u1", gpu_count=2, agent_image="", kind=BootKind.UBUNTU, machine=machine)
    cloud.wait("u1", plane, lambda: done(plane))
    marks = [mark["name"] for mark in plane.enrolments[0]["facts"]["marks"]]
    assert marks == ["booted", "driver_ready", "agent_started"]
    assert plane.exit["code"] == 0, plane.log
    assert "metadata closed" in plane.log
    assert "library 1" in plane.log  # the toolkit shows one of the two
    is_off(cloud.machines, "u1")
    cloud.machines.remove("u1")


@pytest.mark.case("P16")
def test_a_driver_that_cannot_be_installed_is_the_reason_that_is_told(cloud: Cloud) -> None:
    cloud.order(command="true", gpu_count=1)
    gpus = {"gpus": 1, "gpu_model": "NVIDIA L4", "attributes": {"simulated-gpu-driver": "fails"}}
    plane = cloud.boot("m2", gpu_count=1, machine=gpus)
    cloud.wait("m2", plane, lambda: done(plane))
    assert plane.exit["error"].startswith("GPU driver: could not be installed (code 1)")
    assert plane.exit["infrastructure"]
    cloud.machines.remove("m2")


@pytest.mark.case("P16")
def test_a_disk_that_is_too_small_is_the_reason_that_is_told(cloud: Cloud) -> None:
    cloud.order(command="true")
    plane = cloud.boot("m3", machine={"disk_bytes": 1000 << 20})
    cloud.wait("m3", plane, lambda: done(plane))
    assert plane.exit["error"].startswith("disk: ")
    assert plane.exit["infrastructure"]
    cloud.machines.remove("m3")


@pytest.mark.case("P16")
def test_an_agent_image_that_cannot_be_pulled_is_told_on_the_serial_port(cloud: Cloud) -> None:
    cloud.order(command="true")
    absent = cloud.agent_image.partition("@")[0] + "@sha256:" + "0" * 64
    replace(cloud, agent_image=absent).boot("m4")
    output = says(cloud.machines, "m4", "could not be pulled")
    assert absent in output
    cloud.machines.remove("m4")


SAVES = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.mark.case("A23")
def test_a_preempted_machine_reports_before_the_power_button_has_ended_it(cloud: Cloud) -> None:
    cloud.order(command=("bash", "-c", SAVES))
    plane = cloud.boot("m5")
    cloud.wait("m5", plane, lambda: "ready" in plane.log)
    noticed = Stopwatch()
    cloud.machines.write("m5", "instance/preempted", "TRUE")
    cloud.machines.soft_off("m5")
    cloud.wait("m5", plane, lambda: plane.beats[-1]["preempted"])
    told_s = noticed.s
    cloud.wait("m5", plane, lambda: done(plane))
    stopped_s = noticed.s
    print(f"told after {told_s:.2f} s, stopped after {stopped_s:.2f} s")
    assert told_s < 1
    assert stopped_s < 25
    assert "saved" in plane.log
    assert plane.exit["infrastructure"]
    is_off(cloud.machines, "m5")
    cloud.machines.remove("m5")


def test_a_gang_of_two_machines_meets_over_their_network(cloud: Cloud) -> None:
    program = ASK_METADATA + MEET
    names = ("g0", "g1")
    for rank in range(2):
        gang = Gang(rank=rank, nodes=2, port=29500)
        # In the machine's own network root would pass the guard: an image may not choose it.
        image = (cloud.work_image, cloud.root_image)[rank]
        command = ("python3", "-c", program)
        cloud.order(rank, run_id="rgang", command=command, gang=gang, image=image)
    planes = [cloud.boot(name, rank, nodes=2) for rank, name in enumerate(names)]
    for name, plane in zip(names, planes, strict=True):
        cloud.wait(name, plane, lambda p=plane: any(b["state"] == "ready" for b in p.beats))
    addresses = tuple(plane.enrolments[0]["facts"]["address"] for plane in planes)
    for plane in planes:
        plane.rendezvous = Rendezvous(address=addresses[0], peers=addresses)
    for name, plane in zip(names, planes, strict=True):
        cloud.wait(name, plane, lambda p=plane: done(p))
    assert [plane.exit["code"] for plane in planes] == [0, 0], [plane.log for plane in planes]
    assert all("user 1000\nmetadata closed" in plane.log for plane in planes)
    assert "hello from 0" in planes[1].log
    assert "NNODES=2 NODE_RANK=1 WORLD_SIZE=2" in planes[1].log
    for name in names:
        cloud.machines.remove(name)


def test_a_warm_machine_takes_the_next_work_with_nothing_left_of_the_last(cloud: Cloud) -> None:
    cloud.order(command="echo first > outputs/mine", keep_warm_s=600.0, outputs=("outputs",))
    next_work = a_work(
        image=cloud.work_image,
        command="ls outputs; echo looked",
        run_id="rother",
        keep_warm_s=600.0,
    )
    plane = cloud.planes[0]
    plane.next_answers = [204, next_work, *[204] * 100]  # it stays until it is told to go
    cloud.boot("m6")
    cloud.wait("m6", plane, lambda: bool(plane.past) and done(plane))
    assert plane.log == "looked\n"
    left = "docker ps -aq --filter label=cynthus.instance"
    eventually("nothing is left", lambda: run_in(cloud.machines, "m6", left) == "")
    plane.next_answers = [410]
    eventually("it stops", lambda: cloud.machines.state("m6") is Played.OFF)
    cloud.machines.remove("m6")
