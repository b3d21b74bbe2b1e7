"""Every runner image is built for real on the offline base, and tried as its own plain user."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from scripts.images.__main__ import entries
from scripts.images.recipe import Recipe, Wish, recipe
from scripts.images.workshop import OFFLINE_PYTHON, Docker, ImageFailed, Made, make, tried
from tests.action.engine_fixture import DockerEngine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a base image offline"),
]


@pytest.fixture
def docker(docker_engine: DockerEngine) -> Docker:
    return Docker(docker_engine.client)


@pytest.fixture
def built(docker: Docker, offline_base: str) -> Iterator[Callable[[str], tuple[Recipe, Made]]]:
    tags: list[str] = []

    def build(name: str) -> tuple[Recipe, Made]:
        todo = recipe(
            Wish(name=name, python=OFFLINE_PYTHON, base=offline_base, cpu=True), entries()
        )
        tags.append(f"cynthus-test/runner-{name}:{secrets.token_hex(4)}")
        return todo, make(docker, todo, tags[-1], offline=True)

    yield build
    for tag in tags:
        docker.ask(("rmi", "--force", tag))


@pytest.mark.parametrize("name", ["python", "cuda"])
def test_an_image_is_as_the_catalogue_promises(
    name: str, built: Callable[[str], tuple[Recipe, Made]], docker: Docker
) -> None:
    todo, made = built(name)  # raises with what is not as promised
    assert made.found["uid"] == 1000
    assert (
        docker.ask(("run", "--rm", "--network", "none", made.tag, "python", "-c", "print(6*7)"))
        == "42"
    )
    with pytest.raises(ImageFailed, match=r"python: should be '2\.7', found '3\.\d+'"):
        tried(docker, Recipe(entry=todo.entry, python="2.7", base=todo.base, cpu=True), made.tag)


def test_the_agents_image_runs_the_agent(
    built: Callable[[str], tuple[Recipe, Made]], docker: Docker
) -> None:
    _, made = built("agent")  # raises when the agent does not start
    assert made.found["uid"] == 10001
    said = docker.ask(("run", "--rm", "--network", "none", made.tag, "run", "--help"))
    assert "the control plane" in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "framework"), [("pytorch", "torch"), ("tensorflow", "tensorflow")]
)
def test_a_framework_computes(
    name: str, framework: str, built: Callable[[str], tuple[Recipe, Made]]
) -> None:
    todo, made = built(name)
    assert made.found["frameworks"] == dict(todo.entry.frameworks)
    assert made.found["gradients"] == {framework: 12.0}
