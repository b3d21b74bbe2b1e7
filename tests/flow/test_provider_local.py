"""This machine as a provider: nothing survives a delete, whoever was killed before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from cynthus.spec import Resources
from runner_images.agent.processes import marked
from runner_images.agent.workload import INSTANCE_MARK
from tests.docker_fixture import engine_socket, image
from tests.fake_control_plane import SECRET, ControlPlane, a_work
from webhook_server.providers.local import Local, Machine, is_model
from webhook_server.providers.provider import InstanceNotFound, ProviderUnavailable
from webhook_server.runs.lending import Order

__all__ = ["engine_socket", "image"]  # fixtures
NAME = f"cynthus-rlocal{os.getpid()}-1"  # looked for on the whole machine
STUBBORN = "trap '' TERM; echo ready; while true; do sleep 0.05; done"


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    folder = tmp_path / "bundle"
    (folder / "workspace").mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps({"bin": "/usr/bin", "workspace": "workspace"}))
    return folder.as_uri()


def a_machine(plane: ControlPlane, folder: Path, **changes: Any) -> Machine:
    machine = Machine(
        state_dir=folder,
        server_url=plane.url,
        control_plane=f"tests-{os.getpid()}",
        slots=2,
        environment={"PATH": os.environ["PATH"]},
    )
    return replace(machine, **changes)


def an_order(local: Local, name: str = NAME) -> Order:
    need = Resources()
    return Order(
        name=name,
        run_id="rlocal",
        attempt=1,
        repository_id=1,
        offer=local.offers(need)[0],
        need=need,
        max_life=timedelta(minutes=5),
    )


def gone(local: Local, name: str = NAME) -> None:
    for _ in range(5):
        try:
            local.delete(name)
        except InstanceNotFound:
            return
    raise AssertionError("still there after five deletes")


def agent_pid(folder: Path) -> int:
    return int(json.loads((folder / "instances" / NAME / "agent.json").read_text())["pid"])


@pytest.fixture
def plane(bundle: str) -> Iterator[ControlPlane]:
    with ControlPlane(a_work(image=bundle, command=STUBBORN)) as plane:
        yield plane


@pytest.fixture
def local(plane: ControlPlane, tmp_path: Path) -> Iterator[Local]:
    local = Local(a_machine(plane, tmp_path / "state"))
    yield local
    for instance in local.list():
        gone(local, instance.name)


def started(local: Local, plane: ControlPlane) -> None:
    local.create(an_order(local), SECRET)
    plane.wait(lambda: "ready" in plane.log)


def test_many_creates_at_once_start_one_agent(local: Local, plane: ControlPlane) -> None:
    order = an_order(local)
    threads = [threading.Thread(target=local.create, args=(order, SECRET)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plane.wait(lambda: "ready" in plane.log)
    assert len(plane.enrolments) == 1


def test_a_create_that_died_before_the_agent_was_started_is_finished_by_the_next(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    folder = tmp_path / "state" / "instances"
    local.offers(Resources())  # makes the folder of the instances
    local._make(folder / NAME, an_order(local), SECRET)
    assert not local.get(NAME).alive
    started(local, plane)
    assert local.get(NAME).alive


def test_a_create_that_died_before_it_wrote_down_the_agent_starts_no_second(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    started(local, plane)
    (tmp_path / "state" / "instances" / NAME / "agent.json").unlink()
    local.create(an_order(local), SECRET)
    assert local.get(NAME).alive
    assert len(plane.enrolments) == 1
    gone(local)
    assert marked(INSTANCE_MARK, NAME, session=-1) == []


def test_the_secret_is_in_no_argument_and_its_file_is_private_until_it_was_used(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    started(local, plane)
    words = Path(f"/proc/{agent_pid(tmp_path / 'state')}/cmdline").read_bytes()
    assert SECRET.encode() not in words
    assert not (tmp_path / "state" / "instances" / NAME / "secret").exists()
    assert (tmp_path / "state" / "instances" / NAME).stat().st_mode & 0o077 == 0


def test_another_server_over_the_same_folder_finds_and_ends_the_instance(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    started(local, plane)
    after_restart = Local(a_machine(plane, tmp_path / "state"))
    assert [i.name for i in after_restart.list()] == [NAME]
    gone(after_restart)
    assert marked(INSTANCE_MARK, NAME, session=-1) == []
    assert not (tmp_path / "state" / "instances" / NAME).exists()


def test_a_server_that_ended_leaves_its_agents_running(
    plane: ControlPlane, local: Local, tmp_path: Path
) -> None:
    order = an_order(local)
    text = (
        "import os, pathlib\n"
        "from tests.flow.test_provider_local import SECRET, Local, Machine, an_order\n"
        f"local = Local(Machine(state_dir=pathlib.Path({str(tmp_path / 'state')!r}), "
        f"server_url={plane.url!r}, control_plane='x', slots=2, "
        f"environment={{'PATH': os.environ['PATH']}}))\n"
        f"local.create(an_order(local, {NAME!r}), SECRET)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    server = subprocess.run([sys.executable, "-c", text], check=False)
    assert server.returncode == -9
    plane.wait(lambda: "ready" in plane.log)
    assert local.create(order, SECRET).alive
    assert len(plane.enrolments) == 1


def test_what_a_killed_agent_left_running_ends_with_the_delete(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    started(local, plane)
    os.kill(agent_pid(tmp_path / "state"), signal.SIGKILL)
    assert marked(INSTANCE_MARK, NAME, session=-1)
    gone(local)
    assert marked(INSTANCE_MARK, NAME, session=-1) == []


def test_a_stopped_agent_is_ended_too(local: Local, plane: ControlPlane, tmp_path: Path) -> None:
    started(local, plane)
    os.kill(agent_pid(tmp_path / "state"), signal.SIGSTOP)
    gone(local)
    assert marked(INSTANCE_MARK, NAME, session=-1) == []


def test_a_number_that_belongs_to_another_process_now_is_left_alone(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    started(local, plane)
    folder = tmp_path / "state" / "instances" / NAME
    os.kill(agent_pid(tmp_path / "state"), signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        for record in ("agent.json", "process.json"):
            (folder / record).write_text(json.dumps({"pid": stranger.pid, "start_ticks": 1}))
        gone(local)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.docker
def test_the_container_of_a_killed_agent_ends_with_the_delete_and_no_other(
    image: str, engine_socket: str, tmp_path: Path
) -> None:
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    stranger = client.create_container(
        image,
        ["sleep", "60"],
        labels={"cynthus.control_plane": "another", "cynthus.instance": NAME},
    )
    client.start(stranger["Id"])
    try:
        with ControlPlane(a_work(image=image, command=STUBBORN)) as plane:
            local = Local(a_machine(plane, tmp_path / "state"))
            started(local, plane)
            os.kill(agent_pid(tmp_path / "state"), signal.SIGKILL)
            label = f"cynthus.control_plane=tests-{os.getpid()}"
            assert client.containers(filters={"label": label})
            gone(local)
            assert not client.containers(all=True, filters={"label": label})
        assert client.inspect_container(stranger["Id"])["State"]["Running"]
    finally:
        client.remove_container(stranger["Id"], force=True)
        client.close()


def test_an_engine_that_is_away_is_no_proof_that_a_container_is_gone(
    local: Local, plane: ControlPlane, tmp_path: Path
) -> None:
    blind = Local(a_machine(plane, tmp_path / "state", engine_socket=str(tmp_path / "absent")))
    started(blind, plane)
    marker = tmp_path / "state" / "instances" / NAME / "container"
    marker.write_text(NAME)
    os.kill(agent_pid(tmp_path / "state"), signal.SIGKILL)
    with pytest.raises(ProviderUnavailable):
        blind.delete(NAME)
    assert [i.name for i in blind.list()] == [NAME]
    marker.unlink()
    gone(blind)


@pytest.mark.parametrize(
    ("wanted", "model", "same"),
    [
        ("l4", "NVIDIA L4", True),
        ("l4", "NVIDIA L40S", False),
        ("a100", "NVIDIA A100-SXM4-40GB", True),
        ("a100-40gb", "NVIDIA A100-SXM4-40GB", True),
        ("a100-80gb", "NVIDIA A100-SXM4-40GB", False),
        ("h200", "NVIDIA H200", True),
        ("rtx4090", "NVIDIA GeForce RTX 4090", True),
        ("t4", "Tesla T4", True),
    ],
)
def test_a_gpu_is_known_by_its_model(wanted: str, model: str, *, same: bool) -> None:
    assert is_model(wanted, model) is same
