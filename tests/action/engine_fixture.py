"""The Docker client that the Action would take, joined to the engine of the session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from action.engine import engine
from tests.registry_fixture import STARTED


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
def docker_engine(engine_socket: str) -> Iterator[DockerEngine]:
    found = engine.find(os.environ["PATH"])
    assert found is not None, f"{engine_socket} answers, but no docker client on PATH does"
    engine_of_tests = DockerEngine(found.client)
    yield engine_of_tests
    forget_images(engine_of_tests)


def forget_images(client: DockerEngine) -> None:
    """Remove what was pulled from and built for the registries of this session."""
    listed = client.run("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
    names = set()
    for repository, tag, digest in (line.split() for line in listed.splitlines()):
        if repository.partition("/")[0] in STARTED:
            names.add(f"{repository}@{digest}" if tag == "<none>" else f"{repository}:{tag}")
    if names:
        # A container of another test may still hold one: it stays, as it would without us.
        subprocess.run([client.client, "rmi", *sorted(names)], check=False, capture_output=True)
