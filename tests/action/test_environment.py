"""The environment's way, with a real engine and a real registry: built once, found ever after."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from action import environment_push, kept_lock, plan
from action.environment_push import Ready
from action.failures import BuildFailed
from action.inputs import BuildSecret, Machine, Secret
from action.order import Order
from action.registry import Registry as Client
from action.workflow import PlainConsole
from cynthus.errors import UserError
from cynthus.spec import GpuNeed, ImageSpec, Resources, Spec
from tests.action.doors import Doors, doors
from tests.action.engine_fixture import DockerEngine
from tests.action.world import SHA, write_wheel
from tests.registry_fixture import Registry

__all__ = ["doors"]

pytestmark = pytest.mark.docker
NO_DOCKER = "/nonexistent"  # a PATH on which no program is


@pytest.fixture(scope="module")
def base(
    offline_base: str,
    docker_engine: DockerEngine,
    registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The offline base in a registry, as one layer: an image that any runner can pull."""
    saved = tmp_path_factory.mktemp("saved") / "image.tar"
    docker_engine.run("save", "--output", str(saved), offline_base)
    with tarfile.open(saved) as archive:
        [manifest] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))["config"]  # type: ignore[arg-type]
        [layer] = manifest["Layers"]
        content = archive.extractfile(layer).read()  # type: ignore[union-attr]
    saved.unlink()
    settings = {key: config[key] for key in ("Env", "User", "WorkingDir") if config.get(key)}
    name = registry.push("library/base", content, **settings)
    yield name
    _forget(docker_engine, f"{registry.host}/library/base")


def _forget(engine: DockerEngine, repository: str) -> None:
    found = engine.run("images", "--all", "--quiet", "--no-trunc", repository).split()
    if found:
        engine.run("rmi", "--force", *dict.fromkeys(found))


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of two wheels, and no other: no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "cynthus_greeting", "1.0", "TEXT = 'good morning'\n")
    write_wheel(folder, "cynthus_greeting", "2.0", "TEXT = 'good evening'\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def order(
    tmp_path: Path, base: str, registry: Registry, docker_engine: DockerEngine, wheels: Path
) -> Iterator[Order]:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "main.py").write_text("print('hello')\n")
    (root / "requirements.txt").write_text("cynthus-greeting==1.0\n")
    place = f"{registry.host}/acme/{tmp_path.name.replace('_', '-').lower()}"
    yield Order(
        spec=Spec(name="tiny", run="python main.py"),
        root=root,
        origin=plan.Origin(commit_sha=SHA),
        push_to=f"{place}/tiny:{SHA}",
        environments=f"{place}/cynthus.env",
        login=None,
        base_image=base,
        engine_wish="auto",
        machine=_machine(tmp_path / "first", os.environ["PATH"]),
        today=date(2026, 1, 31),
        spec_path="cynthus.yaml",
    )
    _forget(docker_engine, f"{place}/cynthus.env")


def _machine(folder: Path, path: str) -> Machine:
    return Machine(
        path=path, docker_config=folder / "docker", cache_dir=folder / "cache", bundles_dir=folder
    )


def another_runner(order: Order, path: str = NO_DOCKER) -> Order:
    """The same job on a fresh machine: no cache, and no Docker unless `path` has it."""
    folder = order.machine.cache_dir.parent.parent / f"runner-{time.monotonic_ns()}"
    return replace(order, machine=_machine(folder, path))


def ready(order: Order, told: io.StringIO | None = None) -> Ready:
    with ExitStack() as stack:
        kept: dict[str, Client] = {}

        def at(host: str) -> Client:
            if host not in kept:
                kept[host] = stack.enter_context(Client(host))
            return kept[host]

        return environment_push.ready(order, at, PlainConsole(told or io.StringIO()))


def test_it_is_built_once_and_found_by_a_runner_without_docker(
    order: Order, docker_engine: DockerEngine, registry: Registry, wheels: Path
) -> None:
    first = ready(order)
    assert not first.cached
    greet = ("python3", "-c", "import cynthus_greeting as g; print(g.TEXT)")
    name = str(first.reference)
    assert docker_engine.run("run", "--rm", "--network", "none", name, *greet) == "good morning"
    about = first.about
    assert about.lock is not None
    assert "cynthus-greeting==1.0" in about.lock
    assert about.sbom is not None
    parts = {part["name"]: part for part in json.loads(about.sbom)["components"]}
    assert parts["cynthus-greeting"]["hashes"][0]["alg"] == "SHA-256"
    assert parts["pip"]["purl"].startswith("pkg:pypi/pip@")
    for wheel in wheels.iterdir():  # nothing is resolved or fetched any more
        wheel.unlink()
    (order.root / "main.py").write_text("print('another commit')\n")
    again = ready(another_runner(order))
    assert again == replace(first, cached=True, why=again.why, notes=())
    assert "same base and packages" in again.why


def test_other_packages_are_another_environment(order: Order) -> None:
    first = ready(order)
    (order.root / "requirements.txt").write_text("cynthus-greeting==2.0\n")
    second = ready(another_runner(order, order.machine.path))
    assert not second.cached
    assert second.about.key != first.about.key
    assert second.reference.digest != first.reference.digest


def test_a_new_day_resolves_anew_and_needs_no_docker_when_nothing_new_came_out(
    order: Order, wheels: Path
) -> None:
    (order.root / "requirements.txt").write_text("cynthus-greeting\n")
    first = ready(order)
    told = io.StringIO()
    tomorrow = replace(another_runner(order), today=date(2026, 2, 1))
    second = ready(tomorrow, told)
    assert second.reference == first.reference
    assert "1 locked with hashes" in told.getvalue()
    write_wheel(wheels, "cynthus_greeting", "3.0", "TEXT = 'good night'\n")
    with pytest.raises(BuildFailed, match=r"docker: should answer, since the environment of this"):
        ready(replace(another_runner(order), today=date(2026, 2, 2)))


def test_the_same_commit_gets_its_environment_back_whatever_came_out_since(
    order: Order, doors: Doors, wheels: Path
) -> None:
    (order.root / "requirements.txt").write_text("cynthus-greeting\n")
    first = ready(order)
    assert first.about.lock is not None
    query = f"commit={SHA}&spec=cynthus.yaml"
    doors.locks[query] = {"key": first.about.key, "lock": first.about.lock}
    write_wheel(wheels, "cynthus_greeting", "3.0", "TEXT = 'good night'\n")
    later = replace(another_runner(order), today=date(2027, 1, 31), server=doors.server())
    again = ready(later)
    assert again.reference == first.reference
    assert again.why == "this commit was built with it before"
    # Even when the image is gone: the same lock on the same base is the same key.
    elsewhere = replace(later, environments=f"{order.environments}2")
    told = io.StringIO()
    with pytest.raises(BuildFailed, match="docker: should answer"):
        ready(elsewhere, told)
    rebuilt = ready(replace(elsewhere, machine=order.machine))
    assert rebuilt.about.key == first.about.key
    assert rebuilt.about.lock == first.about.lock


def test_of_two_at_once_one_builds(order: Order, doors: Doors) -> None:
    told = [io.StringIO(), io.StringIO()]
    looked = threading.Event()

    def one(number: int) -> Ready:
        mine = replace(
            another_runner(order, order.machine.path),
            server=doors.server(),
            holder=f"run-{number}",
            wait=lambda _seconds: looked.wait(0.05) and None,
        )
        return ready(mine, told[number])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, (0, 1))
    assert first.reference == second.reference
    assert sorted([first.cached, second.cached]) == [False, True]
    builds = [text.getvalue().count("Environment image (no network)") for text in told]
    assert sorted(builds) == [0, 1]
    assert doors.holder is None


def test_a_gpu_that_nothing_would_use_is_refused_before_anything_is_built(
    order: Order, wheels: Path, registry: Registry
) -> None:
    write_wheel(wheels, "torch", "2.6.0+cpu", "")
    (order.root / "requirements.txt").write_text("torch==2.6.0+cpu\n")
    spec = replace(order.spec, resources=Resources(gpu=(GpuNeed(type="l4"),)))
    told = io.StringIO()
    with pytest.raises(UserError, match=r"resources/gpu: should come with .* without `\+cpu`"):
        ready(replace(order, spec=spec), told)
    assert "Environment image" not in told.getvalue()


def test_a_base_that_needs_nothing_added_is_its_own_environment(order: Order, base: str) -> None:
    (order.root / "requirements.txt").unlink()
    found = ready(another_runner(order))
    assert str(found.reference) == base
    assert found.about.base_digest == found.reference.digest
    assert found.cached


def test_a_base_without_python_is_told_with_what_to_do(order: Order, registry: Registry) -> None:
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w"):
        pass
    name = registry.push("library/empty", empty.getvalue())
    with pytest.raises(UserError, match=r"image/base: should contain python3 .* Name another"):
        ready(replace(order, base_image=name))


# ── a Dockerfile of one's own ───────────────────────────────────────────────────────────────────

CANARY = "canary-0123456789abcdef"


@pytest.fixture
def own(order: Order, base: str) -> Order:
    text = (
        f"FROM {base}\n"
        "COPY requirements.txt /tmp/\n"
        "RUN --mount=type=secret,id=index,required=true "
        "test -s /run/secrets/index && sleep 0.3 && wc -c < /run/secrets/index > /length\n"
    )
    (order.root / "Dockerfile").write_text(text)
    image = ImageSpec(dockerfile="Dockerfile")
    secret = BuildSecret(id="index", value=Secret(CANARY))
    return replace(order, spec=replace(order.spec, image=image), build_secrets=(secret,))


def test_only_what_a_dockerfile_takes_has_it_built_again(own: Order) -> None:
    first = ready(own)
    assert not first.cached
    (own.root / "main.py").write_text("print('another commit')\n")
    again = ready(another_runner(own))
    assert again.cached
    assert again.reference == first.reference
    (own.root / "requirements.txt").write_text("other\n")
    told = io.StringIO()
    with pytest.raises(BuildFailed, match="docker: should answer"):
        ready(another_runner(own), told)


def test_a_build_secret_is_seen_by_its_step_and_nowhere_else(
    own: Order, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.update(_processes_with(CANARY))

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = io.StringIO()
    try:
        found = ready(own, told)
    finally:
        over.set()
        watcher.join()
    name = str(found.reference)
    assert docker_engine.run("run", "--rm", "--network", "none", name, "cat", "/length") == str(
        len(CANARY)
    )
    assert seen == set()
    assert CANARY not in told.getvalue()
    assert CANARY not in docker_engine.run("history", "--no-trunc", name)
    saved = tmp_path / "saved.tar"
    docker_engine.run("save", "--output", str(saved), name)
    assert CANARY.encode() not in saved.read_bytes()
    assert not list(Path("/tmp").glob("cynthus-secrets-*"))


def _processes_with(text: str) -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.add(str(path))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_a_secret_that_the_dockerfile_wants_and_nobody_gives_is_told(own: Order) -> None:
    without = replace(own, build_secrets=())
    with pytest.raises(BuildFailed, match="Dockerfile could not be built") as failed:
        ready(without)
    assert failed.value.place is not None
    assert failed.value.place.line == 3


def test_the_lock_says_on_which_base_it_was_made(order: Order, base: str) -> None:
    found = ready(order)
    assert found.about.lock is not None
    assert f" on {base}\n" in found.about.lock
    assert kept_lock.marked(found.about.lock, "1" * 32, "x").count("# cynthus:") == 1
