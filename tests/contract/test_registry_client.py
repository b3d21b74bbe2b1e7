"""The Action's registry client against Debian's registry and every kind of the simulator."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from action.failures import BlobsMissing, BuildFailed, RegistryAway, RegistryRefused
from action.registry.client import Blob, Registry, digest_of
from action.registry.registries import BY_NAME, MANIFEST_TYPES
from tests.oci_fixture import (
    KINDS,
    LOGIN,
    PASSWORD,
    REFRESH,
    USER,
    Simulator,
    Waits,
    client,
    debian,
)

OCI = MANIFEST_TYPES[1]
MIB = 1 << 20
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class World:
    """One registry, and a name in it that no other test uses."""

    host: str
    kind: str
    simulator: Simulator | None

    def client(self, **more: object) -> Registry:
        """Return a new client with a login where the registry knows one."""
        if self.simulator is None:
            return client(self.host, self.kind, None, **more)
        return client(self.host, self.kind, **more)

    @property
    def sim(self) -> Simulator:
        assert self.simulator is not None
        return self.simulator


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    with ExitStack() as stack:
        found = {}
        for kind in KINDS:
            simulator = Simulator(kind, tmp_path_factory.mktemp(kind))
            stack.callback(simulator.stop)
            found[kind] = World(host=simulator.host, kind=kind, simulator=simulator)
        host = stack.enter_context(debian(tmp_path_factory.mktemp("debian")))
        found["debian"] = World(host=host, kind="distribution", simulator=None)
        yield found


@pytest.fixture(params=[*KINDS, "debian"])
def world(request: pytest.FixtureRequest, registries: dict[str, World]) -> World:
    found = registries[request.param]
    if found.simulator is not None:
        found.simulator.forget()
    return found


@pytest.fixture(params=KINDS)
def simulated(request: pytest.FixtureRequest, registries: dict[str, World]) -> World:
    registries[request.param].sim.forget()
    return registries[request.param]


def name() -> str:
    """Return a repository; Artifact Registry wants three parts, and the Hub two: `named_for`."""
    return f"acme/train/r{next(_numbers)}"


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    for fixture in ("world", "simulated"):
        if fixture in request.fixturenames:
            return named_for(request.getfixturevalue(fixture))
    return name()


def named_for(world: World) -> str:
    return name().replace("train/", "") if world.kind == "hub" else name()


def blob_of(content: bytes) -> Blob:
    return Blob(
        digest=digest_of(content), size_bytes=len(content), open=lambda: io.BytesIO(content)
    )


def image(config: Blob, *layers: Blob) -> bytes:
    def part(blob: Blob, kind: str) -> dict[str, object]:
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "size": blob.size_bytes, "digest": blob.digest}

    parts = [part(layer, "layer.v1.tar+gzip") for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": OCI, "config": part(config, "config.v1+json")}
    return json.dumps({**manifest, "layers": parts}).encode()


def push(registry: Registry, repository: str, *, tag: str = "v1") -> tuple[bytes, list[Blob]]:
    parts = [blob_of(os.urandom(100)) for _ in range(2)]
    for part in parts:
        assert registry.upload(repository, part)
    body = image(*parts)
    registry.put_manifest(repository, tag, body, OCI)
    return body, parts


# ── the same for every registry ─────────────────────────────────────────────────────────────────


def test_a_blob_is_sent_once_and_comes_back_as_it_was(world: World, repository: str) -> None:
    content = os.urandom(3 * MIB + 17)
    told: list[int] = []
    with world.client() as registry:
        blob = blob_of(content)
        assert registry.blob_size(repository, blob.digest) is None
        assert registry.upload(repository, blob, told.append) is True
        assert told[-1] == len(content)
        assert registry.upload(repository, blob) is False
        assert registry.blob_size(repository, blob.digest) == len(content)
        with registry.read(repository, blob.digest) as found:
            assert found.read() == content
        with registry.read(repository, blob.digest, offset=MIB) as found:
            assert found.read() == content[MIB:]


def test_a_large_blob_goes_as_the_table_says(world: World, repository: str) -> None:
    """In pieces where the vendor takes them; the client's table is made small for the test."""
    line = BY_NAME[world.kind]
    small = replace(line, chunk_bytes=line.chunk_bytes and MIB)
    content = os.urandom(5 * MIB + 1)
    with world.client(kind=small) as registry:
        assert registry.upload(repository, blob_of(content))
        with registry.read(repository, digest_of(content)) as found:
            assert found.read() == content
    if world.simulator is not None:
        pieces = len(world.simulator.seen("PATCH"))
        assert pieces == (6 if line.chunk_bytes else 0)


def test_an_empty_blob_is_a_blob(world: World, repository: str) -> None:
    with world.client() as registry:
        assert registry.upload(repository, blob_of(b""))
        with registry.read(repository, digest_of(b"")) as found:
            assert found.read() == b""


def test_a_blob_of_another_repository_is_mounted(world: World, repository: str) -> None:
    other, blob = named_for(world), blob_of(b"a layer of the environment")
    with world.client() as registry:
        registry.upload(other, blob)
        assert registry.mount(repository, blob.digest, source=other) is True
        assert registry.blob_size(repository, blob.digest) == blob.size_bytes


def test_an_upload_that_a_mount_opened_is_used(world: World, repository: str) -> None:
    other, blob = named_for(world), blob_of(os.urandom(10))
    with world.client() as registry:
        assert registry.mount(repository, blob.digest, source=other) is False
        assert registry.upload(repository, blob) is True
        assert registry.blob_size(repository, blob.digest) == 10
    if world.simulator is not None:
        opened = [line for line in world.simulator.seen("POST") if line["status"] == 202]
        assert len(opened) == 1


def test_a_manifest_is_found_by_tag_and_by_digest(world: World, repository: str) -> None:
    with world.client() as registry:
        body, _ = push(registry, repository)
        by_tag = registry.manifest(repository, "v1")
        assert by_tag is not None
        assert (by_tag.body, by_tag.media_type, by_tag.digest) == (body, OCI, digest_of(body))
        assert registry.manifest(repository, by_tag.digest) == by_tag
        assert registry.manifest(repository, "v2") is None
        assert registry.manifest(repository, digest_of(b"none")) is None


def test_a_manifest_whose_blob_vanished_names_it(world: World, repository: str) -> None:
    kept, gone = blob_of(b"{}"), blob_of(os.urandom(9))
    with world.client() as registry:
        registry.upload(repository, kept)
        with pytest.raises(BlobsMissing) as caught:
            registry.put_manifest(repository, "v1", image(kept, gone), OCI)
        assert caught.value.digests == (gone.digest,)
        registry.upload(repository, gone)
        registry.put_manifest(repository, "v1", image(kept, gone), OCI)


def test_all_tags_are_listed_over_pages(world: World, repository: str) -> None:
    with world.client() as registry:
        body, _ = push(registry, repository)
        for number in range(2, 5):
            registry.put_manifest(repository, f"v{number}", body, OCI)
        assert sorted(registry.tags(repository)) == ["v1", "v2", "v3", "v4"]
        assert list(registry.tags(named_for(world))) == []


def test_an_image_is_deleted_in_the_vendors_way(world: World, repository: str) -> None:
    with world.client() as registry:
        body, _ = push(registry, repository)
        if registry.kind.deletes != "oci":
            with pytest.raises(RegistryRefused, match="405"):
                registry.delete_manifest(repository, digest_of(body))
            return
        if registry.kind.untag_first:
            with pytest.raises(RegistryRefused, match="DANGLING_TAG"):
                registry.delete_manifest(repository, digest_of(body))
            assert registry.delete_manifest(repository, "v1")
        assert registry.delete_manifest(repository, digest_of(body))
        assert registry.delete_manifest(repository, digest_of(body)) is False
        assert registry.manifest(repository, "v1") is None


def test_a_manifest_that_is_too_large_is_refused_before_it_is_sent(world: World) -> None:
    with world.client() as registry, pytest.raises(RegistryRefused, match="at most 4194304 bytes"):
        registry.put_manifest("acme/train/x", "v1", b" " * (4 * MIB + 1), OCI)


def test_content_that_changed_meanwhile_is_refused(world: World, repository: str) -> None:
    lie = Blob(digest=digest_of(b"promised"), size_bytes=8, open=lambda: io.BytesIO(b"changed!"))
    short = replace(lie, open=lambda: io.BytesIO(b"short"))
    with world.client() as registry:
        with pytest.raises(RegistryRefused, match=r"DIGEST_INVALID.*change meanwhile"):
            registry.upload(repository, lie)
        with pytest.raises(BuildFailed, match="should have 8 bytes, found 5"):
            registry.upload(repository, short)
        assert registry.upload(repository, blob_of(b"promised"))


def test_a_blob_is_copied_between_registries_without_a_disk(
    registries: dict[str, World], world: World, repository: str
) -> None:
    blob = blob_of(os.urandom(MIB))
    home = registries["ghcr"]
    with home.client() as source, world.client() as target:
        source.upload("acme/source", blob)
        piece = source.blob("acme/source", blob.digest, blob.size_bytes)
        target.upload(repository, piece)
        assert target.blob_size(repository, blob.digest) == blob.size_bytes


# ── who we are ──────────────────────────────────────────────────────────────────────────────────


def test_one_token_serves_an_upload_and_no_login_leaves_for_the_storage(
    simulated: World, repository: str
) -> None:
    with simulated.client() as registry:
        registry.upload(repository, blob_of(b"once"))
        with registry.read(repository, digest_of(b"once")) as found:
            assert found.read() == b"once"
    seen = simulated.sim.seen()
    asked = [line for line in seen if line["path"].endswith("token")]
    assert len(asked) == (0 if simulated.kind == "distribution" else 2)  # to push, to pull
    assert all(line["auth"] == "" for line in seen if line["path"].startswith("/storage/"))


@pytest.mark.parametrize("kind", ["ghcr", "artifact-registry", "hub"])
def test_a_token_that_ended_is_asked_for_anew(registries: dict[str, World], kind: str) -> None:
    world = registries[kind]
    world.sim.forget()
    repository = named_for(world)
    with world.client() as registry:
        registry.upload(repository, blob_of(b"first"))
        world.sim.fault("expire", method="POST")  # in the middle: between HEAD and POST
        registry.upload(repository, blob_of(b"second"))
        assert registry.blob_size(repository, digest_of(b"second")) == 6


def test_an_old_token_is_not_shown_at_all(registries: dict[str, World]) -> None:
    world, now = registries["hub"], [0.0]
    world.sim.forget()
    with world.client(clock=lambda: now[0]) as registry:
        registry.blob_size("acme/x", digest_of(b"x"))
        now[0] = 290.0  # of 300: less than the margin is left
        registry.blob_size("acme/x", digest_of(b"x"))
    assert [line["status"] for line in world.sim.seen("HEAD")] == [401, 404, 404]
    assert len([line for line in world.sim.seen() if line["path"] == "/token"]) == 2


def test_an_identity_token_gets_access_tokens(registries: dict[str, World]) -> None:
    world = registries["hub"]
    world.sim.forget()
    with client(world.host, "hub", REFRESH) as registry:
        assert registry.upload(named_for(world), blob_of(os.urandom(5)))
    assert {line["method"] for line in world.sim.seen() if line["path"] == "/token"} == {"POST"}


def test_a_wrong_login_is_told_with_a_remedy_and_without_the_password(simulated: World) -> None:
    wrong = replace(LOGIN, password="wrong-one")
    registry = client(simulated.host, simulated.kind, wrong)
    with registry, pytest.raises(RegistryRefused) as caught:
        registry.upload("acme/train", blob_of(b"x"))
    said = str(caught.value)
    assert said.startswith(f"{simulated.host}/acme/train: should know the blob")
    assert registry.kind.push_remedy in said
    assert "wrong-one" not in said + repr(wrong) + repr(registry.__dict__)


def test_without_a_login_the_remedy_is_one(simulated: World) -> None:
    registry = client(simulated.host, simulated.kind, None)
    with registry, pytest.raises(RegistryRefused, match="`username`"):
        registry.manifest("acme/train", "v1")


def test_a_repository_that_may_not_be_read_is_no_failure_of_a_mount(simulated: World) -> None:
    simulated.sim.control("POST", "forbidden", {"name": "acme/secret"})
    with simulated.client() as registry:
        repository = named_for(simulated)
        assert registry.mount(repository, digest_of(b"x"), source="acme/secret") is False
        assert registry.upload(repository, blob_of(b"x"))


def test_the_token_service_may_have_a_bad_day_too(registries: dict[str, World]) -> None:
    world, waits = registries["hub"], Waits()
    world.sim.forget()
    world.sim.fault("error", path="^/token", status=503)
    with world.client(wait=waits) as registry:
        assert registry.manifest("acme/x", "none") is None
    assert waits == [0.5]


# ── bad days ────────────────────────────────────────────────────────────────────────────────────


def test_a_short_illness_passes_and_a_long_one_is_told(simulated: World, repository: str) -> None:
    waits = Waits()
    with simulated.client(wait=waits) as registry:
        simulated.sim.fault("error", method="HEAD", status=503, times=2)
        assert registry.upload(repository, blob_of(os.urandom(3)))
        assert waits == [0.5, 1.0]
        simulated.sim.fault(
            "error", path="/manifests/", status=500, times=-1, message="no space left on device"
        )
        with pytest.raises(RegistryAway, match=r"500 \(UNKNOWN: no space left on device\)"):
            registry.manifest(repository, "v1")
    assert waits == [0.5, 1.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("header", "waited"),
    [("7", 7.0), ("Wed, 21 Oct 2099 07:28:00 GMT", None), ("0", 0.5), ("soon", 0.5)],
)
def test_a_429_is_obeyed_within_reason(
    registries: dict[str, World], header: str, waited: float | None
) -> None:
    world, waits = registries["hub"], Waits()
    world.sim.forget()
    fault = {"status": 429, "code": "TOOMANYREQUESTS", "headers": {"Retry-After": header}}
    world.sim.fault("error", path="/manifests/", **fault)
    with world.client(wait=waits) as registry:
        if waited is None:
            with pytest.raises(RegistryAway, match="counts requests"):
                registry.manifest("acme/x", "v1")
        else:
            assert registry.manifest("acme/x", "v1") is None
            assert waits == [waited]


def test_an_upload_that_was_cut_is_finished(simulated: World, repository: str) -> None:
    line = BY_NAME[simulated.kind]
    small = replace(line, chunk_bytes=line.chunk_bytes and MIB)
    content = os.urandom(4 * MIB)
    method = "PATCH" if line.chunk_bytes else "PUT"
    simulated.sim.fault("cut", method=method, after=700_000, times=2)
    with simulated.client(kind=small) as registry:
        assert registry.upload(repository, blob_of(content))
        with registry.read(repository, digest_of(content)) as found:
            assert found.read() == content


def test_after_a_cut_only_the_rest_is_sent_where_that_is_possible(
    registries: dict[str, World],
) -> None:
    world, small = registries["hub"], replace(BY_NAME["hub"], chunk_bytes=MIB)
    world.sim.forget()
    content = os.urandom(3 * MIB)
    world.sim.fault("cut", method="PATCH", after=MIB // 2)
    with world.client(kind=small) as registry:
        registry.upload(named_for(world), blob_of(content))
    assert sum(line["bytes"] for line in world.sim.seen("PATCH")) == len(content)


def test_an_answer_that_was_lost_costs_no_more_than_the_piece(simulated: World) -> None:
    line = BY_NAME[simulated.kind]
    small = replace(line, chunk_bytes=line.chunk_bytes and MIB)
    for method in ("POST", "PATCH", "PUT"):
        simulated.sim.fault("drop_answer", method=method, path="/uploads/")
        content = os.urandom(2 * MIB)
        with simulated.client(kind=small) as registry:
            repository = named_for(simulated)
            registry.upload(repository, blob_of(content))
            assert registry.blob_size(repository, digest_of(content)) == len(content)


def test_a_registry_that_takes_no_pieces_gets_the_whole(registries: dict[str, World]) -> None:
    """A vendor that is not in the table, and refuses what the specification allows."""
    world = registries["artifact-registry"]
    world.sim.forget()
    small = replace(BY_NAME["distribution"], chunk_bytes=MIB)
    content = os.urandom(2 * MIB)
    with world.client(kind=small) as registry:
        assert registry.upload(named_for(world), blob_of(content))
    assert [line["status"] for line in world.sim.seen("PATCH")] == [400]


def test_a_registry_that_forgets_how_far_it_got_gets_the_whole(
    registries: dict[str, World],
) -> None:
    """As Amazon's does: https://github.com/aws/containers-roadmap/issues/2831."""
    world, small = registries["hub"], replace(BY_NAME["hub"], chunk_bytes=MIB)
    world.sim.forget()
    world.sim.fault("stuck_range", method="PATCH", times=-1)
    with world.client(kind=small) as registry:
        assert registry.upload(named_for(world), blob_of(os.urandom(2 * MIB)))
    assert len(world.sim.seen("PATCH")) == 1


def test_a_blob_by_another_name_than_a_digest_is_refused() -> None:
    with client("127.0.0.1:9", "distribution", None) as registry:
        for name in ("../../manifests/v1", "foo:12", "", "sha256:" + "A" * 64):
            with pytest.raises(RegistryRefused, match="should name its blobs by sha256"):
                registry.blob_size("a/b", name)


def test_a_refusal_in_the_middle_of_an_upload_is_heard(simulated: World, repository: str) -> None:
    simulated.sim.fault("error", method="PUT", status=413, message="blob too large", times=-1)
    with (
        simulated.client() as registry,
        pytest.raises(RegistryRefused, match=r"413.*Make it smaller"),
    ):
        registry.upload(repository, blob_of(os.urandom(9 * MIB)))


def test_reading_goes_on_after_a_cut_and_is_checked(simulated: World, repository: str) -> None:
    content = os.urandom(2 * MIB)
    where = "/blobs/" if simulated.kind == "distribution" else "/storage/"
    with simulated.client() as registry:
        registry.upload(repository, blob_of(content))
        simulated.sim.fault("cut_answer", method="GET", path=where, after=MIB + 5)
        with registry.read(repository, digest_of(content)) as found:
            assert found.read() == content
        simulated.sim.fault("corrupt", method="GET", path=where)
        reading = registry.read(repository, digest_of(content))
        with reading as found, pytest.raises(RegistryAway, match="found other content"):
            found.read()


def test_reading_goes_on_where_no_part_can_be_asked_for(simulated: World, repository: str) -> None:
    content = os.urandom(3 * MIB)
    where = "/blobs/" if simulated.kind == "distribution" else "/storage/"
    with simulated.client() as registry:
        registry.upload(repository, blob_of(content))
        simulated.sim.fault("no_range", method="GET", path=where, times=-1)
        simulated.sim.fault("cut_answer", method="GET", path=where, after=MIB + 5)
        with registry.read(repository, digest_of(content)) as found:
            assert found.read() == content
        with registry.read(repository, digest_of(content), offset=2 * MIB) as found:
            assert found.read() == content[2 * MIB :]


def test_a_copy_goes_on_after_a_cut_on_either_side(registries: dict[str, World]) -> None:
    home, away = registries["ghcr"], registries["hub"]
    home.sim.forget()
    away.sim.forget()
    content, small = os.urandom(3 * MIB), replace(BY_NAME["hub"], chunk_bytes=MIB)
    repository = named_for(away)
    with home.client() as source, away.client(kind=small) as target:
        source.upload("acme/copied", blob_of(content))
        home.sim.fault("cut_answer", path="/storage/", after=MIB // 2)
        away.sim.fault("cut", method="PATCH", after=MIB // 3)
        target.upload(repository, source.blob("acme/copied", digest_of(content), len(content)))
        assert target.blob_size(repository, digest_of(content)) == len(content)


def test_reading_from_any_place(registries: dict[str, World]) -> None:
    content = os.urandom(1000)
    with registries["ghcr"].client() as registry:
        registry.upload("acme/places", blob_of(content))
        with registry.read("acme/places", digest_of(content)) as found:
            found.seek(900)
            assert found.read(50) == content[900:950]
            found.seek(-40, os.SEEK_CUR)
            assert (found.tell(), found.read(10)) == (910, content[910:920])
            with pytest.raises(OSError, match="counted from its start"):
                found.seek(0, os.SEEK_END)


def test_what_is_stored_under_another_digest_is_no_success(simulated: World) -> None:
    repository = named_for(simulated)
    with simulated.client() as registry:
        simulated.sim.fault("wrong_digest", method="PUT", path="/uploads/")
        assert registry.upload(repository, blob_of(b"{}"))  # again, and then it is right
        simulated.sim.fault("wrong_digest", path="/manifests/")
        with pytest.raises(RegistryAway, match="it stored sha256:0000"):
            registry.put_manifest(repository, "v1", image(blob_of(b"{}")), OCI)
        simulated.sim.fault("corrupt", method="GET", path="/manifests/")
        registry.put_manifest(repository, "v1", image(blob_of(b"{}")), OCI)
        with pytest.raises(RegistryAway, match="content with the digest"):
            registry.manifest(repository, "v1")


def test_a_blob_that_vanished_after_it_was_seen_is_named(simulated: World) -> None:
    repository, blob = named_for(simulated), blob_of(os.urandom(4))
    with simulated.client() as registry:
        registry.upload(repository, blob)
        gone = {"repository": repository, "digest": blob.digest}
        simulated.sim.fault("vanish", method="PUT", path="/manifests/", **gone)
        with pytest.raises(BlobsMissing) as caught:
            registry.put_manifest(repository, "v1", image(blob), OCI)
        assert caught.value.digests == (blob.digest,)


def test_github_counts_what_a_ranged_request_carries(registries: dict[str, World]) -> None:
    """Why the table sends it whole blobs: pieces above 4 MiB are refused."""
    world, pieces = registries["ghcr"], replace(BY_NAME["ghcr"], chunk_bytes=5 * MIB)
    world.sim.forget()
    told = pytest.raises(RegistryRefused, match=r"maximum permissible limit of 4\.00MiB")
    with world.client(kind=pieces) as registry, told:
        registry.upload(named_for(world), blob_of(os.urandom(6 * MIB)))


def test_nobody_there_is_told_in_a_sentence() -> None:
    waits = Waits()
    told = pytest.raises(RegistryAway, match=r"^127\.0\.0\.1:9/a/b: should give the manifest v1")
    with client("127.0.0.1:9", "distribution", None, wait=waits) as registry, told:
        registry.manifest("a/b", "v1")
    assert len(waits) == 6


def test_connections_are_shared_by_threads(simulated: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    repository = named_for(simulated)
    blobs = [blob_of(os.urandom(MIB)) for _ in range(8)]
    with simulated.client() as registry, ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda blob: registry.upload(repository, blob), blobs))
        assert all(pool.map(lambda b: registry.blob_size(repository, b.digest) == MIB, blobs))
    tokens = [line for line in simulated.sim.seen() if line["path"].endswith("token")]
    assert len(tokens) <= 2


def test_a_login_from_an_environment_never_reaches_the_log(tmp_path: Path) -> None:
    assert PASSWORD not in repr(LOGIN)
    assert USER not in repr(LOGIN)
