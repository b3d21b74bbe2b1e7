"""Old images leave real registries by the way that each vendor has."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from action.prune.prune import Policy, prune
from action.prune.shelves import MOST_LOOKED_AT, GithubShelf, RegistryShelf
from action.registry.client import Blob, Registry, digest_of
from action.registry.connections import Connections
from action.registry.registries import MANIFEST_TYPES
from action.workflow import JobConsole
from cynthus.wire_image import ImagesInUse
from tests.contract.conftest import Town
from tests.oci_fixture import PASSWORD, Simulator, client

OCI = MANIFEST_TYPES[1]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=2)
OURS = "https://github.com/acme/train"
RUNS, ENVIRONMENTS = "acme/train/digits", "acme/train/cynthus.env"


def put(registry: Registry, repository: str, tags: list[str], created: datetime) -> str:
    """Store an image of that age; return its digest."""
    config = {"created": created.isoformat(), "rootfs": {"type": "layers", "diff_ids": []}}
    labels = {"org.opencontainers.image.source": OURS, "tags": " ".join(tags)}
    content = json.dumps({**config, "config": {"Labels": labels}}).encode()
    blob = Blob(
        digest=digest_of(content), size_bytes=len(content), open=lambda: io.BytesIO(content)
    )
    registry.upload(repository, blob)
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(content)}
    manifest = {"schemaVersion": 2, "mediaType": OCI, "config": {**part, "digest": blob.digest}}
    body = json.dumps({**manifest, "layers": []}).encode()
    for tag in tags:
        registry.put_manifest(repository, tag, body, OCI)
    return digest_of(body)


def sweep(shelf: object, in_use: ImagesInUse, said: io.StringIO | None = None) -> int:
    policy = Policy(
        before=NOW - timedelta(days=30), source=OURS, keep_key="9" * 32, clock=lambda: 0.0
    )
    return prune([shelf], policy, lambda: in_use, JobConsole(said or io.StringIO()))


@pytest.mark.parametrize("kind", ["distribution", "artifact-registry"])
def test_a_registry_that_deletes_by_its_own_api(kind: str, tmp_path: Path) -> None:
    simulator = Simulator(kind, tmp_path)
    with client(simulator.host, kind) as registry:
        put(registry, RUNS, ["a" * 40], OLD)
        put(registry, RUNS, ["b" * 40], NEW)
        live = put(registry, RUNS, ["c" * 40], OLD)
        put(registry, RUNS, ["latest"], OLD)
        put(registry, ENVIRONMENTS, ["1" * 32, "in-" + "1" * 32], OLD)
        put(registry, ENVIRONMENTS, ["2" * 32, "in-" + "2" * 32], OLD)
        put(registry, ENVIRONMENTS, ["9" * 32], OLD)
        in_use = ImagesInUse(digests=(live,), keys=("2" * 32,))
        for repository, environments in ((RUNS, False), (ENVIRONMENTS, True)):
            shelf = RegistryShelf(
                registry=registry,
                repository=repository,
                start="b" * 40,
                environments=environments,
            )
            assert sweep(shelf, in_use) == 1
            assert sweep(shelf, in_use) == 0
        assert sorted(registry.tags(RUNS)) == ["b" * 40, "c" * 40, "latest"]
        assert sorted(registry.tags(ENVIRONMENTS)) == ["2" * 32, "9" * 32, "in-" + "2" * 32]
    simulator.stop()


@pytest.mark.parametrize("kind", ["distribution", "artifact-registry"])
def test_an_image_that_somebody_gave_a_name_of_their_own_stays(kind: str, tmp_path: Path) -> None:
    """A registry deletes all names of an image with it."""
    simulator = Simulator(kind, tmp_path)
    with client(simulator.host, kind) as registry:
        put(registry, RUNS, ["a" * 40, "v1.0"], OLD)
        put(registry, ENVIRONMENTS, ["1" * 32, "in-" + "1" * 32, "of-the-paper"], OLD)
        for repository, environments in ((RUNS, False), (ENVIRONMENTS, True)):
            shelf = RegistryShelf(
                registry=registry, repository=repository, start="", environments=environments
            )
            assert sweep(shelf, ImagesInUse()) == 0
        assert sorted(registry.tags(RUNS)) == ["a" * 40, "v1.0"]
        assert len(list(registry.tags(ENVIRONMENTS))) == 3
    simulator.stop()


def test_where_too_many_names_are_others_nothing_goes(tmp_path: Path) -> None:
    """Each would have to be looked at, and a job has little time for that."""
    simulator = Simulator("distribution", tmp_path)
    with client(simulator.host, "distribution") as registry:
        put(registry, RUNS, ["a" * 40], OLD)
        put(registry, RUNS, [f"v{number}" for number in range(MOST_LOOKED_AT + 1)], OLD)
        shelf = RegistryShelf(registry=registry, repository=RUNS, start="", environments=False)
        assert sweep(shelf, ImagesInUse()) == 0
    simulator.stop()


@pytest.fixture
def ghcr(tmp_path: Path) -> Iterator[Registry]:
    simulator = Simulator("ghcr", tmp_path)
    with client(simulator.host, "ghcr") as registry:
        yield registry
    simulator.stop()


def test_githubs_registry_deletes_by_githubs_api(town: Town, ghcr: Registry) -> None:
    """The versions stand in GitHub's list; which repository they are of, the image itself tells."""
    repository = f"{town.owner}/train/digits"
    old = put(ghcr, repository, ["a" * 40], OLD)
    live = put(ghcr, repository, ["c" * 40], OLD)
    for digest, tags, created in (
        (old, ["a" * 40], OLD),
        (live, ["c" * 40], OLD),
        (digest_of(b"new"), ["b" * 40], NEW),
        (digest_of(b"part"), [], OLD),
    ):
        town.github.sim(
            "POST",
            "/package_versions",
            {
                "owner": town.owner,
                "package": "train/digits",
                "repo": town.name,
                "name": digest,
                "tags": tags,
                "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )
    job = town.github.sim(
        "POST",
        "/workflow_jobs",
        {"repo": town.name, "sha": town.sha, "permissions": {"packages": "write"}},
    )
    connections = Connections(time.monotonic)
    shelf = GithubShelf(
        registry=ghcr,
        repository=repository,
        api=f"{town.github.url}/api",
        token=job["github_token"],
        connections=connections,
    )
    assert sweep(shelf, ImagesInUse(digests=(live,))) == 1
    left = {image.digest for image in shelf.stored()}
    assert left == {live, digest_of(b"new"), digest_of(b"part")}
    connections.close()


def test_a_job_that_may_not_delete_is_told_how(town: Town, ghcr: Registry) -> None:
    connections, said = Connections(time.monotonic), io.StringIO()
    shelf = GithubShelf(
        registry=ghcr,
        repository=f"{town.owner}/train/digits",
        api=f"{town.github.url}/api",
        token=PASSWORD,
        connections=connections,
    )
    assert sweep(shelf, ImagesInUse(), said) == 0
    assert "GitHub answers 401" in said.getvalue()
    assert "packages: write" in said.getvalue()
    connections.close()
