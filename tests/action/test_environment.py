"""The environment's way, with a real engine and a real registry: built once, found ever after."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from action import plan
from action.environment import push
from action.environment.make import Ready
from action.failures import BuildFailed
from action.inputs import BuildSecret, Machine, Secret
from action.order import Order
from action.registry import reference
from action.registry.client import Registry as Client
from action.registry.client import digest_of
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


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels that tests put where pip and uv look; each is made once, so its hash stays."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "cynthus_greeting", version, f"TEXT = 'good morning {version}'\n")
    write_wheel(folder, "torch", "2.6.0+cpu", "")
    return folder


def _publish(index: Path, folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        [wheel] = index.glob(f"{name}*.whl")
        shutil.copy2(wheel, folder)


GREETING_1, GREETING_2 = "cynthus_greeting-1.0", "cynthus_greeting-2.0"


@contextmanager
def only(folder: Path) -> Iterator[None]:
    """Let pip and uv look into one folder and nowhere else: no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(folder))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        yield


@pytest.fixture
def wheels(tmp_path: Path, index: Path) -> Iterator[Path]:
    """What is published today: version 1.0."""
    folder = tmp_path / "wheels"
    _publish(index, folder, GREETING_1)
    with only(folder):
        yield folder


def an_order(folder: Path, base: str, place: str) -> Order:
    root = folder / "repository"
    root.mkdir()
    (root / "main.py").write_text("print('hello')\n")
    (root / "requirements.txt").write_text("cynthus-greeting==1.0\n")
    return Order(
        spec=Spec(name="tiny", run="python main.py"),
        root=root,
        origin=plan.Origin(commit_sha=SHA),
        push_to=f"{place}/tiny:{SHA}",
        environments=f"{place}/cynthus.env",
        login=None,
        base_image=base,
        engine_wish="auto",
        machine=_machine(folder / "first", os.environ["PATH"]),
        today=date(2026, 1, 31),
        spec_path="cynthus.yaml",
    )


def _machine(folder: Path, path: str) -> Machine:
    return Machine(
        path=path, docker_config=folder / "docker", cache_dir=folder / "cache", bundles_dir=folder
    )


@pytest.fixture(scope="module")
def place(registry: Registry, docker_engine: DockerEngine) -> Iterator[str]:
    name = f"{registry.host}/acme/environments"
    yield name
    _forget(docker_engine, f"{name}/cynthus.env")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, base: str, place: str, index: Path) -> Ready:
    """The environment of the packages' first version, built."""
    folder = tmp_path_factory.mktemp("first")
    _publish(index, folder / "wheels", GREETING_1)
    with only(folder / "wheels"):
        return ready(an_order(folder, base, place))


@pytest.fixture
def order(tmp_path: Path, base: str, place: str, wheels: Path) -> Order:
    """The same commit's order, on a machine without Docker and with nothing kept."""
    made = an_order(tmp_path, base, place)
    return replace(made, machine=_machine(tmp_path / "runner", NO_DOCKER))


def with_docker(order: Order, name: str = "docker") -> Order:
    folder = order.machine.bundles_dir.parent / name
    return replace(order, machine=_machine(folder, os.environ["PATH"]))


def ready(order: Order, told: io.StringIO | None = None) -> Ready:
    with ExitStack() as stack:
        kept: dict[str, Client] = {}

        def at(host: str) -> Client:
            if host not in kept:
                kept[host] = stack.enter_context(Client(host))
            return kept[host]

        return push.ready(order, at, PlainConsole(told or io.StringIO()))


def test_what_was_built_has_its_packages_and_says_what_is_in_it(
    first: Ready, base: str, docker_engine: DockerEngine
) -> None:
    assert not first.cached
    greet = ("python3", "-c", "import cynthus_greeting as g; print(g.TEXT)")
    words = ("run", "--rm", "--network", "none", str(first.reference), *greet)
    assert docker_engine.run(*words) == "good morning 1.0"
    about = first.about
    assert (about.base, about.base_digest) == (base, base.partition("@")[2])
    assert about.lock is not None
    assert about.lock.startswith(f"# cynthus: on {base}\ncynthus-greeting==1.0")
    assert about.sbom is not None
    parts = {part["name"]: part for part in json.loads(about.sbom)["components"]}
    assert parts["cynthus-greeting"]["hashes"][0]["content"] in about.lock
    assert parts["pip"]["purl"].startswith("pkg:pypi/pip@")


def test_what_was_built_carries_its_steps_for_the_next_builders_cache(
    first: Ready, registry: Registry
) -> None:
    name = first.reference.repository
    _, manifest = registry.manifest(name, str(first.reference.digest))
    config = json.loads(registry.blob(name, manifest["config"]["digest"]))
    assert config["moby.buildkit.cache.v0"]


def test_a_commit_that_changes_code_finds_it_without_docker_and_without_resolving(
    first: Ready, order: Order, wheels: Path
) -> None:
    for wheel in wheels.iterdir():
        wheel.unlink()
    (order.root / "main.py").write_text("print('another commit')\n")
    again = ready(order)
    assert again == replace(first, cached=True, why=again.why, notes=())
    assert again.why == "the same base and packages as in an earlier build"


def test_a_new_day_resolves_anew_and_needs_no_docker_when_nothing_new_came_out(
    first: Ready, order: Order, wheels: Path, index: Path
) -> None:
    (order.root / "requirements.txt").write_text("cynthus-greeting\n")
    told = io.StringIO()
    today = ready(order, told)
    assert (today.reference, today.cached) == (first.reference, True)
    assert "packages: 1 locked with hashes" in told.getvalue()
    _publish(index, wheels, GREETING_2)
    assert ready(order).why == "the same base and packages as in an earlier build"
    tomorrow = replace(with_docker(order, "tomorrow"), today=date(2026, 2, 1))
    without = replace(tomorrow, machine=_machine(tomorrow.machine.bundles_dir, NO_DOCKER))
    with pytest.raises(BuildFailed, match=r"docker: should answer, since the environment of this"):
        ready(without)


def test_the_same_commit_gets_its_environment_back_whatever_came_out_since(
    first: Ready, order: Order, doors: Doors, wheels: Path, index: Path
) -> None:
    (order.root / "requirements.txt").write_text("cynthus-greeting\n")
    assert first.about.lock is not None
    query = f"commit={SHA}&spec=cynthus.yaml"
    doors.locks[query] = {"key": first.about.key, "lock": first.about.lock}
    _publish(index, wheels, GREETING_2)
    later = replace(order, today=date(2027, 1, 31), server=doors.server())
    again = ready(later)
    assert again.reference == first.reference
    assert again.why == "this commit was built with it before"


def test_even_when_the_image_is_gone_the_same_lock_makes_the_same_environment(
    first: Ready, order: Order, doors: Doors, registry: Registry
) -> None:
    assert first.about.lock is not None
    query = f"commit={SHA}&spec=cynthus.yaml"
    doors.locks[query] = {"key": "0" * 32, "lock": first.about.lock}  # a key that nothing has
    (order.root / "requirements.txt").write_text("cynthus-greeting\n")
    later = replace(order, today=date(2027, 1, 31), server=doors.server())
    told = io.StringIO()
    again = ready(later, told)
    assert "packages: locked as in this commit's earlier build" in told.getvalue()
    assert again.about.key == first.about.key
    # Whoever wishes the same on that day without a commit's past gets what is new on that day.
    told = io.StringIO()
    ready(replace(later, server=None), told)
    assert "packages: 1 locked with hashes" in told.getvalue()


def test_of_two_at_once_that_want_other_packages_one_builds(
    first: Ready, order: Order, doors: Doors, wheels: Path, index: Path
) -> None:
    _publish(index, wheels, GREETING_2)
    (order.root / "requirements.txt").write_text("cynthus-greeting==2.0\n")
    told = [io.StringIO(), io.StringIO()]
    pause = threading.Event()

    def one(number: int) -> Ready:
        mine = replace(
            with_docker(order, f"runner-{number}"),
            server=doors.server(),
            holder=f"run-{number}",
            wait=lambda _seconds: pause.wait(0.05) and None,
        )
        return ready(mine, told[number])

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(one, (0, 1)))
    assert both[0].reference == both[1].reference
    assert both[0].about.key != first.about.key
    assert sorted(found.cached for found in both) == [False, True]
    builds = [text.getvalue().count("Environment image (no network)") for text in told]
    assert sorted(builds) == [0, 1]
    assert doors.holder is None


def test_a_gpu_that_nothing_would_use_is_refused_before_anything_is_built(
    first: Ready, order: Order, wheels: Path, index: Path
) -> None:
    _publish(index, wheels, "torch-2.6.0+cpu")
    (order.root / "requirements.txt").write_text("torch==2.6.0+cpu\n")
    spec = replace(order.spec, resources=Resources(gpu=(GpuNeed(type="l4"),)))
    told = io.StringIO()
    with pytest.raises(UserError, match=r"resources/gpu: should come with .* without `\+cpu`"):
        ready(replace(order, spec=spec), told)


def test_a_base_that_needs_nothing_added_is_its_own_environment(order: Order, base: str) -> None:
    (order.root / "requirements.txt").unlink()
    found = ready(order)
    assert str(found.reference) == base
    assert found.about.base_digest == found.reference.digest
    assert found.cached


def test_a_base_without_python_is_told_with_what_to_do(
    order: Order, registry: Registry, docker_engine: DockerEngine
) -> None:
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w"):
        pass
    name = registry.push("library/empty", empty.getvalue())
    with pytest.raises(UserError, match=r"image/base: should contain python3 .* Name another"):
        ready(replace(with_docker(order), base_image=name))
    _forget(docker_engine, f"{registry.host}/library/empty")


APT_GET = """#!/bin/sh
# Stands for Debian's: what it is asked to install becomes a file, and an entry of dpkg's list.
[ "$1" = install ] || exit 0
mkdir -p /var/lib/dpkg
for word in "$@"; do
  case $word in
    -*|install) continue ;;
    nothing) echo "E: Unable to locate package nothing" >&2; exit 100 ;;
  esac
  echo "$word" >> /installed
  {
    echo "Package: $word"; echo "Status: install ok installed"
    echo "Architecture: amd64"; echo "Version: 1.2-3"; echo
  } >> /var/lib/dpkg/status
done
"""


@pytest.fixture(scope="module")
def debian(
    base: str,
    registry: Registry,
    docker_engine: DockerEngine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The base with an `apt-get` that needs no mirror."""
    folder = tmp_path_factory.mktemp("debian")
    (folder / "apt-get").write_text(APT_GET)
    (folder / "apt-get").chmod(0o755)
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY apt-get /usr/local/bin/\n")
    name = f"{registry.host}/library/debian:12"
    building = subprocess.run(
        [docker_engine.client, "build", "--quiet", "--tag", name, str(folder)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert building.returncode == 0, building.stderr
    docker_engine.run("push", "--quiet", name)
    yield name
    _forget(docker_engine, f"{registry.host}/library/debian")


def test_debian_packages_are_told_with_versions_and_installed_once_for_all_environments(
    order: Order, debian: str, wheels: Path, index: Path, docker_engine: DockerEngine
) -> None:
    (order.root / "requirements.txt").unlink()
    spec = replace(order.spec, image=ImageSpec(system=("git", "ffmpeg")))
    mine = replace(with_docker(order), spec=spec, base_image=debian)
    told = io.StringIO()
    found = ready(mine, told)
    assert "Debian packages: git 1.2-3, ffmpeg 1.2-3" in told.getvalue()
    words = ("run", "--rm", "--network", "none", str(found.reference), "cat", "/installed")
    assert docker_engine.run(*words).split() == ["git", "ffmpeg"]
    assert "pkg:deb/debian/ffmpeg@1.2-3?arch=amd64" in str(found.about.sbom)
    (order.root / "requirements.txt").write_text("cynthus-greeting==1.0\n")
    told = io.StringIO()
    other = ready(mine, told)
    assert other.about.key != found.about.key
    assert "Debian packages git, ffmpeg: in the registry already" in told.getvalue()


def test_a_debian_package_that_is_not_there_is_told_in_apts_words(
    order: Order, debian: str
) -> None:
    spec = replace(order.spec, image=ImageSpec(system=("nothing",)))
    with pytest.raises(BuildFailed, match=r"image/system: .* Unable to locate package nothing"):
        ready(replace(with_docker(order), spec=spec, base_image=debian))


# ── a Dockerfile of one's own ───────────────────────────────────────────────────────────────────

CANARY = "canary-0123456789abcdef"


@dataclass
class Watched:
    """A build, and what could be seen of it from outside."""

    ready: Ready
    told: str
    processes: set[str]


def an_own(order: Order, base: str) -> Order:
    text = (
        f"FROM {base}\n"
        "COPY requirements.txt /tmp/\n"
        "RUN --mount=type=secret,id=index,required=true "
        "sleep 0.3 && wc -c < /run/secrets/index > /length\n"
    )
    (order.root / "Dockerfile").write_text(text)
    image = ImageSpec(dockerfile="Dockerfile")
    secret = BuildSecret(id="index", value=Secret(CANARY))
    return replace(order, spec=replace(order.spec, image=image), build_secrets=(secret,))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, base: str, place: str) -> Watched:
    """A Dockerfile built with a secret, while every process of the machine is looked at."""
    order = an_own(an_order(tmp_path_factory.mktemp("own"), base, place), base)
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            seen.update(_processes_with(CANARY))

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = io.StringIO()
    try:
        found = ready(order, told)
    finally:
        over.set()
        watcher.join()
    return Watched(found, told.getvalue(), seen)


def _processes_with(text: str) -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.add(str(path))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_a_build_secret_is_seen_by_its_step_and_nowhere_else(
    watched: Watched, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    name = str(watched.ready.reference)
    read = ("run", "--rm", "--network", "none", name, "cat", "/length")
    assert docker_engine.run(*read) == str(len(CANARY))
    assert watched.processes == set()
    assert CANARY not in watched.told
    assert CANARY not in docker_engine.run("history", "--no-trunc", name)
    saved = tmp_path / "saved.tar"
    docker_engine.run("save", "--output", str(saved), name)
    assert CANARY.encode() not in saved.read_bytes()
    assert not list(Path(tempfile.gettempdir()).glob("cynthus-secrets-*"))


def test_only_what_a_dockerfile_takes_has_it_built_again(
    watched: Watched, order: Order, base: str
) -> None:
    own = an_own(order, base)
    (own.root / "main.py").write_text("print('another commit')\n")
    again = ready(own)
    assert again.cached
    assert again.reference == watched.ready.reference
    assert again.why.endswith("nothing that it takes")
    (own.root / "requirements.txt").write_text("other\n")
    with pytest.raises(BuildFailed, match="docker: should answer"):
        ready(own)


def test_a_base_that_moved_is_not_taken_as_this_machine_remembers_it(
    order: Order, registry: Registry, docker_engine: DockerEngine
) -> None:
    """A runner of one's own keeps images; the key says which one the registry has now."""
    old, new = (registry.push("library/moving", _layer(word)) for word in ("old", "new"))
    place = reference.parse(old).at(tag="v1")
    with Client(place.host) as client:
        for name in (old, new):
            image = client.manifest(place.repository, reference.parse(name).which)
            assert image is not None
            client.put_manifest(place.repository, "v1", image.body, image.media_type)
            if name == old:
                docker_engine.run("pull", "--quiet", str(place))
    (order.root / "Dockerfile").write_text(f"FROM {place}\nCOPY main.py /\n")
    own = replace(order.spec, image=ImageSpec(dockerfile="Dockerfile"))
    try:
        found = ready(replace(with_docker(order), spec=own)).reference
    finally:
        _forget(docker_engine, str(place.at()))
    _, manifest = registry.manifest(found.repository, found.which)
    config = json.loads(registry.blob(found.repository, manifest["config"]["digest"]))
    assert config["rootfs"]["diff_ids"][0] == digest_of(_layer("new"))


def _layer(word: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("which")
        entry.size = len(word)
        archive.addfile(entry, io.BytesIO(word.encode()))
    return content.getvalue()


def test_a_secret_that_the_dockerfile_wants_and_nobody_gives_fails_at_its_line(
    order: Order, base: str
) -> None:
    own = an_own(order, base)
    path = own.root / "Dockerfile"
    path.write_text(path.read_text().replace("sleep 0.3", "echo other"))  # no step is kept for it
    with pytest.raises(BuildFailed, match="Dockerfile could not be built") as failed:
        ready(replace(with_docker(own), build_secrets=()))
    assert failed.value.place is not None
    assert failed.value.place.line == 3
