"""An image that we put together is one to others: Docker and buildah run it, skopeo copies it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.action.engine_fixture import DockerEngine
from tests.action.test_jobs import path_without_docker
from tests.action.world import World
from tests.registry_fixture import Registry

pytestmark = pytest.mark.docker

SPEC = "version: 1\nname: tiny\nrun: cat main.py\n"


@pytest.fixture(scope="module")
def base(docker_engine: DockerEngine, registry: Registry, image: str) -> Iterator[str]:
    """The tiny image in the registry; one layer of this machine's programs."""
    name = f"{registry.host}/acme/base:1"
    docker_engine.run("tag", image, name)
    docker_engine.run("push", name)
    yield name
    docker_engine.run("rmi", name)


@pytest.fixture
def pushed(
    world: World, base: str, registry: Registry, docker_engine: DockerEngine, tmp_path: Path
) -> Iterator[str]:
    """An image made by the Action on a machine without Docker."""
    world.write(
        {
            "cynthus.yaml": SPEC,
            "main.py": "print('hello')\n",
            "sub/ä ö\n.txt": "odd\n",
        }
    )
    done = world.run(
        PATH=str(path_without_docker(tmp_path)),
        INPUT_BASE_IMAGE=base,
        INPUT_REGISTRY=registry.host,
        CYNTHUS_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield world.outputs()["image"]
    docker_engine.run("rmi", "--force", world.outputs()["image"])


def test_docker_runs_it_as_the_plain_user_in_the_workspace(
    pushed: str, docker_engine: DockerEngine
) -> None:
    words = ("run", "--rm", "--network", "none", pushed, "bash", "-c")
    script = "cat main.py; id -u; pwd; echo $HOME; cat sub/*; touch new $HOME/new && echo writable"
    assert docker_engine.run(*words, script).splitlines() == [
        "print('hello')",
        "1000",
        "/workspace",
        "/home/workload",
        "odd",
        "writable",
    ]


def test_docker_fetches_the_source_layer_alone_where_it_has_the_environment(
    pushed: str, docker_engine: DockerEngine
) -> None:
    """The base was pushed from this very engine, so its layer is here."""
    told = docker_engine.run("pull", pushed).splitlines()
    assert sum("Already exists" in line for line in told) == 1
    assert sum("Pull complete" in line for line in told) == 1


def test_the_request_and_the_summary_name_what_the_image_stands_on(
    pushed: str, base: str, world: World
) -> None:
    [request] = world.submitted
    assert request["image"] == pushed
    assert request["environment"]["base"] == base
    assert request["environment"]["base_digest"].startswith("sha256:")
    assert "the base image as it is, since the spec adds nothing to it" in world.summary()


@pytest.fixture
def room() -> Iterator[str]:
    """A folder for copies of the image, which pytest would keep for days."""
    with tempfile.TemporaryDirectory(prefix="cynthus-interop-") as folder:
        yield folder


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH: apt-get install {name}")
    return found


def test_skopeo_inspects_and_copies_it(pushed: str, room: str) -> None:
    """It checks every digest on the way, as podman and CRI-O do, which share its library."""
    words = [program("skopeo"), "--insecure-policy"]
    source = ["--src-tls-verify=false", f"docker://{pushed}"]
    subprocess.run([*words, "copy", "-q", *source, f"oci:{room}:1"], check=True)
    found = json.loads(subprocess.check_output([*words, "inspect", "--config", f"oci:{room}:1"]))
    assert found["config"]["WorkingDir"] == "/workspace"
    assert len(found["rootfs"]["diff_ids"]) == 2


def test_buildah_pulls_and_runs_it(pushed: str, room: str) -> None:
    """Without an engine: storage of its own, and chroot instead of a container's walls."""
    own = ["--root", f"{room}/root", "--runroot", f"{room}/run", "--storage-driver", "vfs"]
    words = [program("buildah"), *own]

    def buildah(*more: str) -> str:
        done = subprocess.run([*words, *more], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    name = buildah("from", "--isolation", "chroot", "--tls-verify=false", pushed)
    script = "cat main.py; id -u; pwd; echo $HOME"
    told = buildah("run", "--isolation", "chroot", name, "--", "bash", "-c", script)
    buildah("rm", name)
    assert told.splitlines() == ["print('hello')", "1000", "/workspace", "/home/workload"]
