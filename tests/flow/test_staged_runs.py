"""A run finds its data staged: the real agent, as processes and in a container."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from cynthus.wire_data import DatasetWork
from tests.agent_process import INSTANCE, finished
from tests.docker_fixture import engine_socket, image
from tests.fake_control_plane import ControlPlane, a_work
from tests.hub_fixture import Hub
from tests.staged import a_dataset

__all__ = ["engine_socket", "image"]  # fixtures
TOKEN = "hf_token-that-nobody-may-see"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=TOKEN)
    yield hub
    hub.stop()


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    folder = tmp_path / "bundle"
    (folder / "workspace").mkdir(parents=True)
    (folder / "bin").mkdir()
    told = {"bin": str(folder / "bin"), "workspace": "workspace"}
    (folder / "bundle.json").write_text(json.dumps(told))
    return folder.as_uri()


def a_private_dataset(hub: Hub, name: str, mount: str) -> DatasetWork:
    made = hub.make(
        "hf/repos",
        type="dataset",
        name=name,
        private=True,
        readers=["ada"],
        files={"d/train.csv": "1,2\n"},
    )
    dataset = a_dataset(f"hf://datasets/{name}@main", made["commit"], mount=mount)
    return DatasetWork(dataset=dataset, endpoint=hub.url)


def ran(plane: ControlPlane, folder: Path, **more: str) -> ControlPlane:
    cache = ("--cache-dir", str(folder / "cache"))
    return finished(plane, folder / "state", options=cache, **more)


def test_processes_find_it_by_name_and_in_their_workspace(
    hub: Hub, bundle: str, tmp_path: Path
) -> None:
    data = (a_private_dataset(hub, "acme/plain", "/workspace/inputs/train"),)
    command = "cat $CYNTHUS_DATA/train/d/train.csv inputs/train/d/train.csv; env | grep -c hf_ || :"
    work = a_work(
        image=bundle, command=command, data=data, hub_secrets={"HF_TOKEN": TOKEN}, repository_id=7
    )
    with ControlPlane(work) as plane:
        ran(plane, tmp_path, engine="process")
    assert plane.exit["code"] == 0, plane.exit
    assert plane.log == "1,2\n1,2\n0\n"
    staged = plane.events("staging")
    assert staged[-1]["state"] == "ready"
    assert staged[-1]["origin"] == "hub"
    assert any("came from hf" in notice["text"] for notice in plane.events("notice"))
    assert [m["name"] for m in plane.events("mark")][:1] == ["data_staged"]
    assert TOKEN not in json.dumps(plane.beats)
    assert list((tmp_path / "cache" / "7" / "trees").glob("*.json"))


def test_data_that_does_not_come_ends_the_run_before_its_command(
    hub: Hub, bundle: str, tmp_path: Path
) -> None:
    data = (a_private_dataset(hub, "acme/hidden", "/data/train"),)
    with ControlPlane(a_work(image=bundle, data=data, repository_id=7)) as plane:
        ran(plane, tmp_path, engine="process")
    assert plane.exit["error"].startswith("data train: acme/hidden is not there, or private: ")
    assert plane.exit["code"] is None
    assert not plane.exit["infrastructure"]
    assert plane.log == ""


@pytest.mark.case("A12")
@pytest.mark.docker
def test_a_container_can_read_it_and_nothing_else_of_the_cache(
    hub: Hub, image: str, engine_socket: str, tmp_path: Path
) -> None:
    data = (a_private_dataset(hub, "acme/mounted", "/data/train"),)
    command = """cat $CYNTHUS_DATA/train/d/train.csv; id -u
    for path in /data/train/x /data/train/d/train.csv; do
        (echo evil >$path) 2>/dev/null && echo written || echo refused
    done
    chmod u+w /data/train/d/train.csv 2>/dev/null || echo kept; ls /data"""
    work = a_work(
        image=image, command=command, data=data, hub_secrets={"HF_TOKEN": TOKEN}, repository_id=7
    )
    with ControlPlane(work) as plane:
        ran(plane, tmp_path)
    assert plane.exit["code"] == 0, plane.exit
    assert plane.log == "1,2\n1000\nrefused\nrefused\nkept\ntrain\n"
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    left = client.containers(all=True, filters={"label": f"cynthus.instance={INSTANCE}"})
    client.close()
    assert left == []
