"""The Docker client that the Action would take, joined to the engine of the session."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

import pytest

from action import engine


@dataclass(frozen=True)
class DockerEngine:
    """A client that can build with BuildKit."""

    client: str

    def run(self, *words: str) -> str:
        """Call the client and return what it prints."""
        done = subprocess.run([self.client, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="session")
def docker_engine(engine_socket: str) -> DockerEngine:
    found = engine.find(os.environ["PATH"])
    assert found is not None, f"{engine_socket} answers, but no docker client on PATH does"
    return DockerEngine(found.client)
