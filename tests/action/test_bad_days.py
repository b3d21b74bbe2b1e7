"""Whole jobs on bad days: what a user sees, what the server hears, and that nothing stays."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from action import build, plan
from action.failures import BuildFailed
from action.inputs import Login, Machine, Secret
from action.order import Order
from action.workflow import PlainConsole
from cynthus.spec import Spec
from tests.action.test_jobs import path_without_docker
from tests.action.test_publish_vendors import push_environment
from tests.action.world import SHA, World
from tests.oci_fixture import PASSWORD, USER, Simulator, Waits, client
from tests.small_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture

SPEC = "version: 1\nname: tiny\nrun: python main.py\n"
PLACE = "acme/train"


class Day:
    """A runner without Docker, a registry that has the base, and a repository."""

    def __init__(self, world: World, sim: Simulator, base: str, uploads: Path) -> None:
        self.world, self.sim, self.base, self.uploads = world, sim, base, uploads
        self.temporary = world.folder / "temporary"
        self.temporary.mkdir()
        self.path = path_without_docker(world.folder)
        self.root = world.write({"cynthus.yaml": SPEC, "main.py": f"print('{world.folder}')\n"})

    def run(self, **more: str) -> CompletedProcess[str]:
        given = {
            "PATH": str(self.path),
            "TMPDIR": str(self.temporary),
            "CYNTHUS_CACHE_DIR": str(self.world.folder / "cache"),
            "INPUT_BASE_IMAGE": self.base,
            "INPUT_REGISTRY": f"{self.sim.host}/{PLACE}",
            "INPUT_USERNAME": USER,
            "INPUT_PASSWORD": PASSWORD,
            **more,
        }
        done = self.world.run(**given)
        assert done.stderr == ""
        assert "Traceback" not in done.stdout
        assert [path.name for path in self.temporary.iterdir() if path.name != "filler"] == []
        assert list(self.uploads.iterdir()) == []
        return done

    def fails(self, code: int, told: str, *, heard: bool = True, **more: str) -> str:
        """Run to the failure; return the log, with what is told in every place where one looks."""
        done = self.run(**more)
        assert done.returncode == code, done.stdout
        [annotation] = [line for line in done.stdout.splitlines() if line.startswith("::error")]
        assert told in annotation
        assert "Cynthus: no run" in self.world.summary()
        if heard:
            [request] = self.world.submitted
            assert request["image"] is None
            assert told in request["failure"]
            assert self.world.outputs()["conclusion"] == "failure"
        return done.stdout

    def source(self) -> dict[str, tarfile.TarInfo]:
        """Return what the run image has below /workspace."""
        digest = self.world.submitted[-1]["image"].partition("@")[2]
        with client(self.sim.host, self.sim.kind) as registry:
            manifest = registry.manifest(f"{PLACE}/tiny", digest)
            assert manifest is not None
            top = manifest.json()["layers"][-1]["digest"]
            with registry.read(f"{PLACE}/tiny", top) as blob:
                raw = gzip.decompress(blob.read())
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            return {entry.name.removeprefix("workspace/"): entry for entry in archive}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, str, Path]]:
    folder = tmp_path_factory.mktemp("registry")
    found = Simulator("distribution", folder)
    with client(found.host, found.kind) as registry:
        digest = push_environment(registry, f"{PLACE}/base")
    yield found, f"{found.host}/{PLACE}/base@{digest}", folder / "uploads"
    found.stop()


@pytest.fixture
def day(world: World, sim: tuple[Simulator, str, Path]) -> Iterator[Day]:
    yield Day(world, *sim)
    sim[0].forget()


# ── the registry ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"status": 429, "headers": {"Retry-After": "3600"}}, "again in 60 min, as it says"),
        ({"method": "POST", "status": 403, "code": "DENIED"}, "the right to pull and to push"),
        ({"method": "PUT", "path": "/manifests/", "status": 413}, "Make it smaller"),
        ({"method": "PUT", "path": "/blobs/", "status": 413}, "Make it smaller"),
        ({"method": "PUT", "path": "/blobs/", "status": 507}, "make room there"),
        (
            {"method": "GET", "path": "/blobs/", "status": 404, "code": "BLOB_UNKNOWN"},
            "The image is not whole there: push it anew",
        ),
        ({"kind": "corrupt", "method": "GET", "path": "/blobs/"}, "found other content"),
        (
            {"method": "PUT", "path": "/manifests/", "status": 404, "code": "BLOB_UNKNOWN"},
            "It must be sent again",
        ),
    ],
)
def test_a_registry_that_says_no_is_told_with_what_to_do(
    day: Day, fault: dict[str, Any], told: str
) -> None:
    day.sim.fault(**{"kind": "error", "times": -1, **fault})
    log = day.fails(1, told)
    assert f"{day.sim.host}/{PLACE}/" in log


def test_a_wrong_password_is_told_and_not_repeated(day: Day) -> None:
    log = day.fails(1, "found 401", INPUT_PASSWORD="not-the-password")
    assert "Check the login" in log
    assert "not-the-password" not in log.replace("::add-mask::not-the-password", "")


def test_half_an_upload_is_sent_again(day: Day) -> None:
    day.sim.fault("cut", method="PUT", path="/blobs/", after=50, times=2)
    assert day.run().returncode == 0
    assert "main.py" in day.source()


@pytest.fixture
def order(day: Day) -> Order:
    machine = Machine(
        path=str(day.path),
        docker_config=day.root.parent,
        cache_dir=day.root.parent,
        bundles_dir=day.root.parent,
    )
    return Order(
        spec=Spec(name="tiny", run="python main.py"),
        root=day.root,
        origin=plan.Origin(commit_sha=SHA),
        push_to=f"{day.sim.host}/{PLACE}/tiny:{SHA}",
        environments=f"{day.sim.host}/{PLACE}/cynthus.env",
        login=Login(username=USER, password=Secret(PASSWORD)),
        base_image=day.base,
        engine_wish="auto",
        machine=machine,
        today=date(2026, 1, 31),
        wait=Waits(),
    )


def fails_after_half_a_minute(order: Order) -> str:
    with pytest.raises(BuildFailed) as caught:
        build.build(order, PlainConsole(io.StringIO()))
    assert isinstance(order.wait, Waits)
    assert sum(order.wait) > 30
    return str(caught.value)


def test_a_registry_that_is_down_is_waited_for_and_told(order: Order) -> None:
    gone = "127.0.0.1:9"  # port 9 discards
    away = replace(order, push_to=f"{gone}/tiny:{SHA}", environments=f"{gone}/cynthus.env")
    said = fails_after_half_a_minute(replace(away, base_image=f"{gone}/base@sha256:{'0' * 64}"))
    assert said.startswith(f"{gone}/base: should give the manifest sha256:0")
    assert "no answer came (Connection refused)" in said


def test_an_upload_that_is_cut_each_time_ends_in_a_sentence(day: Day, order: Order) -> None:
    day.sim.fault("cut", method="PUT", path="/blobs/", after=50, times=-1)
    assert "no answer came (the connection was cut)" in fails_after_half_a_minute(order)
    assert list(day.uploads.iterdir()) == []


# ── the source ──────────────────────────────────────────────────────────────────────────────────

ODD = (
    *(b"caf\xc3\xa9", b"latin\xe9.py", b"new\nline.py", b"esc\x1b[31m.py", b"a::error::b.py"),
    *(b"%0A,x:y.py", b"-rf", b" lead", b"trail ", b"a\\b.py", b"...", b"x" * 255),
    *("\N{GRINNING FACE}.py".encode(), "e\u0301.py".encode(), "\u00e9.py".encode()),
)


def test_odd_names_are_carried_as_they_are_and_the_log_stays_whole(day: Day) -> None:
    """Also links that lead nowhere, in a circle or out, and what is no file at all."""
    folder = os.fsencode(day.root / "odd")
    os.mkdir(folder)
    for odd in ODD:
        with open(folder + b"/" + odd, "wb") as file:
            file.write(b"print(1)\n")
    os.mkfifo(day.root / "pipe\n::error::x")
    for name, target in {"loop.py": "loop.py", "gone.py": "no", "link.py": "main.py"}.items():
        (day.root / name).symlink_to(target)
    (day.root / "out.py").symlink_to("/proc/self/environ")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(day.root / "socket"))
        done = day.run()
    assert done.returncode == 0, done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("::error")]
    for told in (
        "pipe\\n::error::x is a named pipe",
        "socket is a socket",
        "out.py links to `/proc/self/environ`, outside the source; it is left out",
    ):
        assert told in done.stdout
    found = day.source()
    assert {os.fsencode(name) for name in found} >= {b"odd/" + odd for odd in ODD}
    links = {name: entry.linkname for name, entry in found.items() if entry.issym()}
    assert links == {"loop.py": "loop.py", "gone.py": "no", "link.py": "main.py"}


def test_one_file_of_5_gb_is_named_with_both_ways_out(day: Day) -> None:
    with (day.root / "weights.bin").open("wb") as file:
        file.truncate(5 << 30)  # sparse: it takes no room here
    log = day.fails(2, "found weights.bin (5.37 GB)")
    assert "write `weights.bin` into .cynthusignore to leave it out" in log


@pytest.mark.parametrize(
    "name", ["requirements.txt", ".dockerignore", "Dockerfile", "cynthus.yaml"]
)
def test_a_link_to_the_jobs_own_secrets_is_not_read(day: Day, name: str) -> None:
    if name == "Dockerfile":
        day.world.write({"cynthus.yaml": f"{SPEC}image: {{dockerfile: Dockerfile}}\n"})
    (day.root / name).unlink(missing_ok=True)
    (day.root / name).symlink_to("/proc/self/environ")
    log = day.fails(2, "a link out of the repository", heard=name != "cynthus.yaml", MARK="m4rk")
    assert "m4rk" not in log + day.world.summary() + str(day.world.submitted)


def test_a_spec_that_is_a_pipe_keeps_nobody_waiting(day: Day) -> None:
    (day.root / "cynthus.yaml").unlink()
    os.mkfifo(day.root / "cynthus.yaml")
    day.fails(2, "found: no plain file", heard=False)


# ── requirements ────────────────────────────────────────────────────────────────────────────────


def test_every_line_that_cannot_be_followed_is_annotated(day: Day) -> None:
    lines = {
        "--index-url https://ada:h1dden@example.com/simple": "UV_INDEX",
        "-e .": "in the image at /workspace",
        "--pre": "Take this line out",
        "git+https://ada:h1dden@example.com/b@main": "a repository. Take a release",
        "a @ https://example.com/a.whl": "an address",
        "a==1 --hash=sha256:" + "0" * 64: "",
        "b==2": "one exact version with a hash, as the other lines have",
        "caf\u00e9": "a package name with versions and markers only",
    }
    day.world.write({"requirements.txt": "".join(f"{line}\n" for line in lines)})
    done = day.run()
    assert done.returncode == 2
    [request] = day.world.submitted
    for number, remedy in enumerate(lines.values(), 1):
        place = f"::error file=requirements.txt,line={number},col=1::"
        told = [line for line in done.stdout.splitlines() if line.startswith(place)]
        assert bool(told) == bool(remedy), number
        assert remedy in "".join(told)
        assert (f"requirements.txt:{number}:1: " in request["failure"]) == bool(remedy)
    assert "h1dden" not in done.stdout + day.world.summary() + request["failure"]


def test_a_file_that_is_wrong_on_every_line_is_told_in_as_many_as_are_read(day: Day) -> None:
    day.world.write({"requirements.txt": "a b\n" * 5000})
    done = day.run()
    assert done.returncode == 2
    assert "4900 faults more are not listed" in done.stdout
    [request] = day.world.submitted
    assert len(request["failure"].splitlines()) == 101


# ── the runner ──────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_is_told_with_the_way_out(day: Day, small_disk: Path) -> None:
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - (128 << 10))
    day.temporary = small_disk
    (day.root / "data.bin").write_bytes(os.urandom(400_000))
    log = day.fails(1, "No space left on device", TMPDIR=str(small_disk))
    assert f"The packed source needs room in {small_disk}: free some" in log


def test_outputs_that_cannot_be_written_end_it_without_a_trace(day: Day) -> None:
    done = day.run(GITHUB_OUTPUT="/dev/full", GITHUB_STEP_SUMMARY="/dev/full")
    assert done.returncode == 3
    assert "::error::the builder's machine: " in done.stdout
    assert "No space left on device" in done.stdout
