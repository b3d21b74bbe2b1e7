"""A real Docker engine for a test session: the one that answers, or one started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "unix:///var/run/docker.sock"
START_LIMIT_S = 30


@dataclass(frozen=True)
class DockerEngine:
    """A client that can build with BuildKit, and where its engine listens."""

    client: str
    host: str

    def run(self, *words: str) -> str:
        """Call the client and return what it prints."""
        done = subprocess.run(
            [self.client, "-H", self.host, *words], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _clients() -> list[str]:
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = [shutil.which("docker", path=folder) for folder in dict.fromkeys(folders) if folder]
    return [client for client in found if client]


def _answers(client: str) -> bool:
    return (
        subprocess.run([client, "-H", HOST, "version"], check=False, capture_output=True).returncode
        == 0
    )


def _builds(client: str) -> bool:
    asked = [client, "version", "--format", "{{.Client.Version}}"]
    version = (
        subprocess.run(asked, check=False, capture_output=True, text=True)
        .stdout.split(".")[0]
        .strip()
    )
    if version.isdigit() and int(version) < 23:
        return True
    return (
        subprocess.run([client, "buildx", "version"], check=False, capture_output=True).returncode
        == 0
    )


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """Yield the engine; one that this session started is stopped again."""
    clients = _clients()
    if not clients:
        _absent("no docker client on PATH: apt-get install docker.io")
    started = None if any(map(_answers, clients)) else _start(tmp_path_factory.mktemp("dockerd"))
    try:
        building = [client for client in clients if _answers(client) and _builds(client)]
        if not building:
            _absent("a Docker engine answers, but no client here has BuildKit")
        yield DockerEngine(building[0], HOST)
    finally:
        if started is not None:
            started.terminate()
            started.wait(30)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        _absent("no Docker engine answers, and only root with dockerd installed can start one")
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_LIMIT_S
    while not any(map(_answers, _clients())):
        if daemon.poll() is not None or time.monotonic() > deadline:
            _absent("dockerd did not start: " + (folder / "log").read_text()[-500:])
        time.sleep(0.05)
    return daemon
