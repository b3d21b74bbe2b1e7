"""The registry simulator judged by an unmodified official client: Docker's own push and pull."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.services import docker_engine
from tests.oci_fixture import KINDS, PASSWORD, USER, Simulator

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docker() -> Iterator[str]:
    engine = docker_engine()
    if engine.client is None:
        pytest.skip(engine.why_not)
    yield engine.client
    engine.stop()


class Docker:
    """The docker program with a configuration of its own."""

    def __init__(self, program: str, config: Path, host: str, password: str) -> None:
        pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
        config.mkdir()
        (config / "config.json").write_text(json.dumps({"auths": {host: {"auth": pair}}}))
        self._words = [program, "--config", str(config)]

    def run(self, *words: str, given: bytes = b"") -> str:
        done = subprocess.run(
            [*self._words, *words], input=given, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def refusal(self, *words: str) -> str:
        done = subprocess.run([*self._words, *words], capture_output=True, check=False, timeout=60)
        assert done.returncode != 0
        return done.stderr.decode()


def tree() -> bytes:
    """Return a small file system that no other image has."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        content = os.urandom(200_000)
        item = tarfile.TarInfo("weights.bin")
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
    return memory.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_docker_pushes_and_pulls(kind: str, docker: str, tmp_path: Path) -> None:
    simulator = Simulator(kind, tmp_path / "state")
    program = Docker(docker, tmp_path / "config", simulator.host, PASSWORD)
    path = "acme/model" if kind == "hub" else "acme/train/model"
    name, other = f"{simulator.host}/{path}:v1", f"{simulator.host}/{path}2:v1"
    made = program.run("import", "-", name, given=tree())
    try:
        program.run("push", name)
        program.run("tag", name, other)
        program.run("push", other)  # its layer is mounted
        program.run("rmi", "--force", made)
        program.run("pull", name)
        assert program.run("image", "inspect", "--format", "{{.Id}}", name) == made
        assert any("mount=" in line["query"] for line in simulator.seen("POST"))
    finally:
        subprocess.run([docker, "rmi", "--force", made], capture_output=True, check=False)
        simulator.stop()


def test_docker_is_refused_as_by_the_real_ones(docker: str, tmp_path: Path) -> None:
    simulator = Simulator("artifact-registry", tmp_path / "state")
    right = Docker(docker, tmp_path / "right", simulator.host, PASSWORD)
    wrong = Docker(docker, tmp_path / "wrong", simulator.host, "wrong")
    name = f"{simulator.host}/acme/nobody-made-this/model:v1"
    made = right.run("import", "-", name, given=tree())
    try:
        assert "not found" in right.refusal("push", name)
        assert "unauthorized" in wrong.refusal("push", name)
        assert "manifest unknown" in right.refusal("pull", f"{simulator.host}/acme/train/none:v1")
    finally:
        subprocess.run([docker, "rmi", "--force", made], capture_output=True, check=False)
        simulator.stop()
