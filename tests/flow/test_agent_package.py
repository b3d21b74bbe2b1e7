"""The agent as one file is the same agent, without anything installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pyrage
import pytest

from runner_images.agent.package import build
from tests.agent_process import LIMIT_S
from tests.docker_fixture import engine_socket, image
from tests.fake_control_plane import SECRET, ControlPlane, a_work

__all__ = ["engine_socket", "image"]  # fixtures
SIZE_LIMIT = 3 << 20
# The bare interpreter: no site-packages, no environment of ours.
PYTHON = ("/usr/bin/python3", "-I", "-S")


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pyz") / "agent.pyz")


def ran(pyz: Path, plane: ControlPlane, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text(SECRET)
    words = ("run", "--server", plane.url, "--instance", f"cynthus-rpyz{os.getpid()}-1")
    files = ("--secret-file", str(folder / "secret"), "--state-dir", str(folder / "state"))
    done = subprocess.run(
        [*PYTHON, str(pyz), *words, *files],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60 + LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_it_is_small_and_made_the_same_each_time(pyz: Path, tmp_path: Path) -> None:
    assert pyz.stat().st_size < SIZE_LIMIT
    assert build(tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()


def test_it_runs_a_process(pyz: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bin": "/usr/bin", "workspace": "workspace"}))
    with ControlPlane(a_work(image=bundle.as_uri(), command="echo hello")) as plane:
        ran(pyz, plane, tmp_path / "run")
    assert plane.log == "hello\n"
    assert plane.exit["code"] == 0


def test_it_encrypts_by_the_environment_that_its_lock_makes(pyz: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bin": "/usr/bin", "workspace": "workspace"}))
    with ZipFile(pyz) as archive:
        lock = archive.read("runner_images/agent/age.lock")
        assert b"pyrage==" in lock
    # Made before: what pip installs into it is what these tests were given from the same lock.
    cache = tmp_path / "run" / "state-cache"
    cache.mkdir(parents=True)
    (cache / f"age-{hashlib.sha256(lock).hexdigest()[:16]}").symlink_to(sys.prefix)
    key = pyrage.x25519.Identity.generate()
    work = a_work(
        image=bundle.as_uri(),
        command="mkdir -p outputs; echo hi > outputs/x",
        outputs=("outputs",),
        encrypt_to=str(key.to_public()),
    )
    with ControlPlane(work) as plane:
        ran(pyz, plane, tmp_path / "run")
    assert plane.exit["error"] is None
    assert set(plane.outputs) == {"outputs/x.age"}, plane.outputs
    assert pyrage.decrypt(plane.blobs["outputs/x.age"], [key]) == b"hi\n"


@pytest.mark.docker
def test_it_runs_a_container(pyz: Path, image: str, tmp_path: Path) -> None:
    work = a_work(image=image, command="echo hi > outputs/x", outputs=("outputs",))
    with ControlPlane(work) as plane:
        ran(pyz, plane, tmp_path / "run")
    assert plane.blobs == {"outputs/x": b"hi\n"}


def test_polling_says_that_it_is_not_there_yet(pyz: Path) -> None:
    done = subprocess.run([*PYTHON, str(pyz), "poll"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "registered nodes are not part of this version" in done.stderr
