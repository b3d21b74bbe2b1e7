"""Where no registry answers: the base image comes from Debian packages, or not at all."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from action import build, plan
from action.engine import base
from action.failures import BuildFailed
from action.inputs import Machine
from action.order import Order
from action.workflow import PlainConsole
from cynthus.errors import UserError
from cynthus.spec import ImageSpec, Spec
from tests.action.engine_fixture import DockerEngine

pytestmark = pytest.mark.docker


@pytest.fixture
def order(tmp_path: Path, cache_dir: Path, docker_engine: DockerEngine) -> Order:
    (tmp_path / "main.py").write_text("print('hello')\n")
    machine = Machine(
        path=os.environ["PATH"],
        docker_config=tmp_path / "docker",
        cache_dir=cache_dir,
        bundles_dir=tmp_path / "bundles",
    )
    return Order(
        spec=Spec(name="offline", run="python main.py"),
        root=tmp_path,
        origin=plan.Origin(),
        push_to=None,
        login=None,
        base_image=None,
        engine_wish="docker",
        machine=machine,
        today=date(2026, 1, 31),
        answers=lambda _host: False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a base image offline")
def test_system_packages_of_the_spec_are_in_the_offline_base(
    order: Order, docker_engine: DockerEngine
) -> None:
    wanted = replace(order.spec, image=ImageSpec(system=("tree",)))
    try:
        built = build.build(replace(order, spec=wanted), PlainConsole(out := io.StringIO()))
        words = ("run", "--rm", "--network", "none", built.image)
        assert "main.py" in docker_engine.run(*words, "tree", "--noreport")
        assert "Debian packages:" not in out.getvalue()
        assert "made offline" in built.notes[0]
    finally:
        docker_engine.run("rmi", "--force", base.offline_tag(("tree",)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a base image offline")
def test_a_python_that_debian_does_not_have_is_refused(order: Order, offline_base: str) -> None:
    wanted = replace(order.spec, image=ImageSpec(python="3.13"))
    with pytest.raises(UserError, match=r"image/python: should be 3\.\d+, which the base image"):
        build.build(replace(order, spec=wanted), PlainConsole(io.StringIO()))


def test_an_image_that_only_a_registry_has_is_a_failure_with_the_name(order: Order) -> None:
    wanted = replace(order.spec, image=ImageSpec(base="ghcr.io/acme/none:1"))
    with pytest.raises(BuildFailed, match=r"ghcr\.io did not give ghcr\.io/acme/none:1"):
        build.build(replace(order, spec=wanted), PlainConsole(io.StringIO()))


def test_two_builds_of_one_name_at_once_keep_their_own_images(
    order: Order, offline_base: str, tmp_path: Path, docker_engine: DockerEngine
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "main.py").write_text(f"print({number})\n")
        mine = replace(order, root=folder, base_image=offline_base)
        return build.build(mine, PlainConsole(io.StringIO())).image

    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(one, (1, 2)))
    words = ("run", "--rm", "--network", "none")
    told = [docker_engine.run(*words, image, "python", "main.py") for image in images]
    assert told == ["1", "2"]
