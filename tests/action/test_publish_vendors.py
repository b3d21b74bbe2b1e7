"""A run image in each vendor's registry, as it differs, and on the days when they are unwell."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from action.failures import RegistryAway, RegistryRefused
from action.image import append, compress, layer, publish
from action.image.append import Change
from action.image.publish import Published, Wanted
from action.registry.client import Blob, Registry, digest_of
from action.registry.reference import Reference
from action.source import source
from action.workflow import PlainConsole
from tests.oci_fixture import KINDS, Simulator, Waits, client

LAYERS = 5  # of the environment
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Simulator]]:
    """One of each kind that is asked for."""
    running: dict[str, Simulator] = {}

    def of(kind: str) -> Simulator:
        if kind not in running:
            running[kind] = Simulator(kind, tmp_path_factory.mktemp(kind))
        return running[kind]

    yield of
    for one in running.values():
        one.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    (found / "main.py").write_text("print('hello')\n")
    return found


class Job:
    """A fresh runner: clients without tokens or connections."""

    def __init__(self, sim: Simulator, folder: Path) -> None:
        self.sim, self.folder = sim, folder
        number = next(NUMBERS)
        room = "acme" if sim.kind == "hub" else "acme/train"  # Docker Hub's names have two parts
        self.target = Reference(host=sim.host, repository=f"{room}/run-{number}", tag="a" * 40)
        self.below = Reference(host=sim.host, repository=f"{room}/env-{number}")
        with self.client() as registry:
            self.below = self.below.at(digest=push_environment(registry, self.below.repository))
        sim.forget()

    def client(self) -> Registry:
        return client(self.sim.host, self.sim.kind)

    def wanted(self) -> Wanted:
        def pack(compression: compress.Compression) -> layer.Layer:
            chosen = source.select(self.folder, ".", source.rules_of(self.folder))
            return layer.pack(chosen, self.folder.parent, compression=compression)

        return Wanted(
            target=self.target,
            below=self.below,
            change=Change(labels=(), created_s=0),
            pack=pack,
        )

    def run(self) -> Published:
        with self.client() as registry:
            console = PlainConsole(io.StringIO())
            return publish.publish(self.wanted(), lambda _: registry, console)

    def pulls(self, image: Reference) -> bool:
        """Read every blob of the image, as whoever pulls it does."""
        with self.client() as registry:
            manifest = registry.manifest(image.repository, image.which)
            assert manifest is not None
            for part in (manifest.json()["config"], *manifest.json()["layers"]):
                with registry.read(image.repository, part["digest"]) as file:
                    assert len(file.read()) == part["size"]
        return True


def push_environment(registry: Registry, repository: str) -> str:
    contents = [os.urandom(1000) for _ in range(LAYERS)]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(one) for one in contents]},
    }
    blobs = [json.dumps(config).encode(), *(gzip.compress(one) for one in contents)]
    kinds = [append.OCI_CONFIG, *[f"{append.OCI_LAYER}+gzip"] * LAYERS]
    for one in blobs:
        blob = Blob(
            digest=digest_of(one), size_bytes=len(one), open=lambda one=one: io.BytesIO(one)
        )
        registry.upload(repository, blob)
    listed = [
        {"mediaType": kind, "digest": digest_of(one), "size": len(one)}
        for kind, one in zip(kinds, blobs, strict=True)
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": append.OCI_MANIFEST,
        "config": listed[0],
        "layers": listed[1:],
    }
    body = json.dumps(manifest).encode()
    return registry.put_manifest(repository, "env", body, append.OCI_MANIFEST)


@pytest.fixture(params=KINDS)
def job(
    request: pytest.FixtureRequest, simulators: Callable[[str], Simulator], folder: Path
) -> Iterator[Job]:
    found = Job(simulators(request.param), folder)
    yield found
    found.sim.forget()


@pytest.fixture
def ghcr(simulators: Callable[[str], Simulator], folder: Path) -> Iterator[Job]:
    found = Job(simulators("ghcr"), folder)
    yield found
    found.sim.forget()


# ── each vendor ─────────────────────────────────────────────────────────────────────────────────


def test_the_first_image_is_mounted_and_the_next_sends_its_source_alone(job: Job) -> None:
    first = job.run()
    assert (first.there, first.mounted, first.copied) == (0, LAYERS, 0)
    assert job.pulls(first.reference)
    (job.folder / "main.py").write_text("print('changed')\n")
    job.target = job.target.at(tag="b" * 40)
    second = job.run()
    assert (second.there, second.mounted, second.copied) == (LAYERS, 0, 0)
    assert second.moved_bytes < second.layer.size_bytes + 40_000
    assert job.pulls(second.reference)


def test_the_round_trips_of_a_changed_source_are_counted(job: Job) -> None:
    """What nearly every commit costs; a request more for each is seconds on a far registry."""
    job.run()
    (job.folder / "main.py").write_text("print('changed')\n")
    job.target = job.target.at(tag="b" * 40)
    job.sim.forget()
    job.run()
    count = {name: len(job.sim.seen(name)) for name in ("HEAD", "POST", "PUT", "PATCH")}
    assert count == {"HEAD": LAYERS, "POST": 2, "PUT": 3, "PATCH": 0}


def test_what_stands_under_a_digest_is_read_once(ghcr: Job) -> None:
    with ghcr.client() as registry:
        ghcr.sim.forget()
        for _ in range(2):  # to look at the environment, and to put the source on it
            publish.read_below(registry, ghcr.below, append.PLATFORM)
        read = [line["status"] for line in ghcr.sim.seen("GET") if "/v2/" in line["path"]]
        assert [status for status in read if status != 401] == [200, 307]  # manifest and config


def test_each_right_is_asked_for_with_one_token(ghcr: Job) -> None:
    ghcr.run()
    ghcr.target = ghcr.target.at(tag="b" * 40)
    ghcr.sim.forget()
    ghcr.run()
    # To read the environment, to look at the tag, to write.
    assert len([line for line in ghcr.sim.seen("GET") if "/token" in line["path"]]) == 3


def test_the_same_commit_again_writes_nothing(job: Job) -> None:
    first = job.run()
    job.sim.forget()
    again = job.run()
    assert again.was_there
    assert again.reference == first.reference
    assert not [line for line in job.sim.seen() if line["method"] in {"POST", "PUT", "PATCH"}]


def test_what_a_clean_up_took_meanwhile_is_brought_again(job: Job) -> None:
    with job.client() as registry:
        manifest = registry.manifest(job.below.repository, job.below.which)
    assert manifest is not None
    gone = manifest.json()["layers"][2]["digest"]
    job.sim.fault(
        "vanish", method="PUT", path="/manifests/", repository=job.target.repository, digest=gone
    )
    published = job.run()
    assert published.mounted == LAYERS + 1
    assert job.pulls(published.reference)


# ── bad days ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_busy_for_a_moment_delays_and_does_not_fail(
    ghcr: Job, status: int
) -> None:
    ghcr.sim.fault("error", method="POST", path="/blobs/uploads/", status=status, times=2)
    ghcr.sim.fault("error", method="PUT", path="/manifests/", status=status, times=1)
    assert ghcr.pulls(ghcr.run().reference)


def test_a_token_that_ends_in_the_middle_is_asked_for_anew(ghcr: Job) -> None:
    ghcr.sim.fault("expire", method="PUT", times=1)
    assert ghcr.pulls(ghcr.run().reference)


def test_an_upload_that_is_cut_is_sent_again(ghcr: Job) -> None:
    ghcr.sim.fault("cut", method="PUT", path="/blobs/uploads/", after=50, times=1)
    assert ghcr.pulls(ghcr.run().reference)


def test_no_right_to_write_ends_it_with_what_to_do(ghcr: Job) -> None:
    ghcr.sim.fault("error", method="POST", status=403, code="DENIED", times=-1)
    ghcr.sim.fault("error", method="PUT", status=403, code="DENIED", times=-1)
    with pytest.raises(RegistryRefused, match="packages: write"):
        ghcr.run()


def test_a_tag_that_may_not_move_leaves_the_image_under_its_digest(ghcr: Job) -> None:
    first = ghcr.run()
    (ghcr.folder / "main.py").write_text("print('changed')\n")
    immutable = {"method": "PUT", "path": f"/manifests/{ghcr.target.tag}", "times": -1}
    ghcr.sim.fault("error", status=400, code="DENIED", **immutable)
    second = ghcr.run()
    assert second.reference != first.reference
    assert ghcr.pulls(second.reference)


def test_a_base_of_another_registry_is_copied_through_a_cut(
    ghcr: Job, simulators: Callable[[str], Simulator]
) -> None:
    other = Job(simulators("distribution"), ghcr.folder)
    other.sim.fault("cut_answer", method="GET", path="/blobs/", after=500, times=2)
    with other.client() as there, ghcr.client() as here:
        clients = {other.sim.host: there, ghcr.sim.host: here}
        wanted = replace(ghcr.wanted(), below=other.below)
        published = publish.publish(wanted, clients.__getitem__, PlainConsole(io.StringIO()))
    assert (published.mounted, published.copied) == (0, LAYERS)
    assert ghcr.pulls(published.reference)


def test_nobody_there_ends_it_in_a_sentence(folder: Path) -> None:
    gone = Reference(host="127.0.0.1:9", repository="acme/train", tag="a")  # port 9 discards
    wanted = Wanted(
        target=gone,
        below=gone.at(digest=digest_of(b"")),
        change=Change(labels=(), created_s=0),
        pack=lambda _: pytest.fail("nothing is packed for a registry that is away"),
    )
    waits = Waits()
    told = pytest.raises(RegistryAway, match=r"127\.0\.0\.1:9/acme/train: should")
    with Registry(gone.host, None, wait=waits) as registry, told:
        publish.publish(wanted, lambda _: registry, PlainConsole(io.StringIO()))
    assert waits
