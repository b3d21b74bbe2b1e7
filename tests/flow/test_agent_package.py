"""The agent as one file is the same agent, without anything installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

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
    folder.mkdir()
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
