"""A gang: several agents of one attempt start together, and their commands find one another."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest

from cynthus.wire import Gang, Rendezvous
from demo.processes import free_port
from runner_images.agent.container_network import (
    Network,
    drop_network,
    drop_unused,
    gang_network,
    have_network,
)
from tests.agent_process import LIMIT_S, PLANE, an_agent
from tests.docker_fixture import engine_socket, image
from tests.fake_control_plane import ControlPlane, a_work

__all__ = ["engine_socket", "image"]  # fixtures
# Agents, networks and their rules are found by these names: each test process has its own.
RUN = f"rgang{os.getpid()}"
ROOT_ONLY = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may change the machine's packet rules"
)
NAMES = (f"cynthus-{RUN}-1-0", f"cynthus-{RUN}-1-1")

# Each side connects to the other, and each says what it was told.
MEET = """
import os, socket, sys
rank, port = int(os.environ["NODE_RANK"]), int(os.environ["MASTER_PORT"])
own = socket.create_server(("", 0))
own.settimeout(60)
if rank == 0:
    door = socket.create_server(("", port))
    door.settimeout(60)
    print("listening", flush=True)
    peer, address = door.accept()
    back = int(peer.makefile().readline())
    socket.create_connection((address[0], back), 60).sendall(b"hello from 0\\n")
else:
    for _ in range(1200):  # a minute
        try:
            master = socket.create_connection((os.environ["MASTER_ADDR"], port), 60)
            break
        except OSError:  # as programs of this kind do: not there yet
            import time
            time.sleep(0.05)
    master.sendall(b"%d\\n" % own.getsockname()[1])
    print(own.accept()[0].makefile().readline(), end="")
names = ("NNODES", "NODE_RANK", "WORLD_SIZE")
print(*(f"{name}={os.environ[name]}" for name in names))
"""


def run_gang(
    planes: tuple[ControlPlane, ...], folder: Path, engine: str, *, cloud: Any = None
) -> None:
    """Run one agent for each plane; let them meet once all are ready."""
    with ExitStack() as stack:
        agents = [
            stack.enter_context(
                an_agent(plane, folder / NAMES[rank], engine=engine, name=NAMES[rank])
            )
            for rank, plane in enumerate(planes)
        ]
        for plane in planes:
            plane.wait_state("ready")
            assert not any(beat["state"] == "running" for beat in plane.beats)
        addresses = tuple(plane.enrolments[0]["facts"]["address"] for plane in planes)
        for plane in planes:
            with plane.changed:
                plane.rendezvous = Rendezvous(address=addresses[0], peers=addresses)
        for plane, agent in zip(planes, agents, strict=True):
            plane.wait(lambda plane=plane: plane.beats[-1]["state"] == "done", 60)
            assert agent.wait(LIMIT_S) == 0


@pytest.fixture
def planes() -> Iterator[tuple[ControlPlane, ...]]:
    with ExitStack() as stack:
        port = free_port()
        yield tuple(
            stack.enter_context(
                ControlPlane(
                    a_work(
                        run_id=RUN,
                        command=("python3", "-c", MEET),
                        gang=Gang(rank=rank, nodes=2, port=port),
                    ),
                    heartbeat_s=0.3,
                )
            )
            for rank in range(2)
        )


def told(planes: tuple[ControlPlane, ...]) -> None:
    assert [plane.exit["code"] for plane in planes] == [0, 0], [p.log for p in planes]
    assert planes[0].log == "listening\nNNODES=2 NODE_RANK=0 WORLD_SIZE=2\n"
    assert planes[1].log == "hello from 0\nNNODES=2 NODE_RANK=1 WORLD_SIZE=2\n"


def with_image(planes: tuple[ControlPlane, ...], image: str) -> None:
    from dataclasses import replace

    for plane in planes:
        plane.work = replace(plane.work, image=image)


def test_two_processes_of_one_machine_meet(
    planes: tuple[ControlPlane, ...], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bin": "/bin", "workspace": "workspace"}))
    with_image(planes, bundle.as_uri())
    run_gang(planes, tmp_path, "process")
    told(planes)


@pytest.mark.docker
def test_two_containers_of_one_machine_meet_in_a_network_of_their_own(
    planes: tuple[ControlPlane, ...], image: str, engine_socket: str, tmp_path: Path
) -> None:
    with_image(planes, image)
    run_gang(planes, tmp_path, "docker")
    told(planes)
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    left = client.networks(filters={"label": f"cynthus.control_plane={PLANE}"})
    client.close()
    assert left == []


@pytest.fixture
def a_dead_networks_rule(planes: tuple[ControlPlane, ...]) -> Iterator[None]:
    """A rule as Docker leaves it when its data is wiped: it translates the gang's packets too."""
    bridge = gang_network(PLANE, planes[0].work.run_id, planes[0].work.attempt).bridge
    rule = ["POSTROUTING", "-o", bridge, "-j", "MASQUERADE"]
    subprocess.run(["iptables", "-w", "-t", "nat", "-A", *rule], check=True)
    yield
    subprocess.run(["iptables", "-w", "-t", "nat", "-D", *rule], check=True)


@pytest.fixture
def engine(engine_socket: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    yield client
    client.close()


def translations(network: Network) -> list[str]:
    """Return the machine's rules that let members of a network see their own addresses."""
    words = ["iptables-save", "-t", "nat"]
    rules = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return [one for one in rules.splitlines() if network.bridge in one and "ACCEPT" in one]


@pytest.mark.docker
@ROOT_ONLY
def test_a_rule_that_two_agents_added_at_the_same_moment_goes_with_the_network(
    engine: docker.APIClient,
) -> None:
    network = gang_network(PLANE, f"{RUN}twice", 1)
    have_network(engine, network, PLANE)
    (rule,) = translations(network)
    second = ["iptables", "-w", "-t", "nat", *rule.split()]  # whose agent saw none yet either
    subprocess.run(second, check=True)
    assert len(translations(network)) == 2
    drop_network(engine, network, PLANE)
    assert translations(network) == []


@pytest.mark.docker
@ROOT_ONLY
def test_what_a_killed_agent_left_of_a_network_goes_with_its_rules(
    engine: docker.APIClient,
) -> None:
    plane = f"{PLANE} of {RUN}"  # nobody else's networks
    network = gang_network(plane, RUN, 1)
    have_network(engine, network, plane)
    drop_unused(engine, plane)
    assert translations(network) != []  # it may yet be used
    drop_unused(engine, plane, before="4102444800")
    assert engine.networks(names=[network.name]) == []
    assert translations(network) == []


@pytest.mark.docker
@ROOT_ONLY
def test_containers_meet_though_the_machine_translates_their_addresses(
    planes: tuple[ControlPlane, ...], image: str, a_dead_networks_rule: None, tmp_path: Path
) -> None:
    with_image(planes, image)
    run_gang(planes, tmp_path, "docker")
    told(planes)
    assert translations(gang_network(PLANE, RUN, planes[0].work.attempt)) == []


@pytest.mark.docker
def test_a_gang_that_never_meets_obeys_a_stop(
    planes: tuple[ControlPlane, ...], image: str, tmp_path: Path
) -> None:
    with_image(planes, image)
    plane = planes[0]
    with an_agent(plane, tmp_path / "s", engine="docker", name=NAMES[0]) as agent:
        plane.wait_state("ready")
        plane.stop = "another instance of the gang was lost"
        plane.wait(lambda: plane.beats[-1]["state"] == "done")
        assert agent.wait(LIMIT_S) == 0
    assert plane.exit["stopped"]
    assert plane.exit["code"] is None
    assert plane.exit["error"] == "another instance of the gang was lost"
