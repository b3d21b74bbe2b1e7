"""A run image in a real registry: what is moved, what is not, and that it says what it should."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from action.failures import BuildFailed
from action.image import compress, layer, publish
from action.image.append import Change
from action.image.publish import Published, Wanted
from action.registry import reference
from action.registry.client import Blob
from action.registry.pool import RegistryPool
from action.registry.reference import Reference
from action.source import source
from action.workflow import PlainConsole
from tests.registry_fixture import Registry, a_registry

CHANGE = Change(labels=(("dev.cynthus.environment", "e" * 32),), created_s=1_700_000_000)


def tar_of(name: str, content: bytes) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        item = tarfile.TarInfo(name)
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
    return memory.getvalue()


@pytest.fixture
def pool() -> Iterator[RegistryPool]:
    with RegistryPool(lambda _: None) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    (found / "main.py").write_text("print('hello')\n")
    return found


@pytest.fixture
def below(registry: Registry, request: pytest.FixtureRequest) -> Reference:
    """An environment of one layer, which no other test has."""
    content = request.node.name.encode()
    return reference.parse(registry.push("acme/env", tar_of("env", content), Env=["A=b"]))


@pytest.fixture
def wanted(
    below: Reference, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Wanted:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    target = Reference(host=below.host, repository=f"acme/{name}", tag="a" * 40)
    return Wanted(target=target, below=below, change=CHANGE, pack=packer(folder, tmp_path))


def packer(folder: Path, room: Path) -> Callable[[compress.Compression], layer.Layer]:
    def pack(compression: compress.Compression) -> layer.Layer:
        chosen = source.select(folder, ".", source.rules_of(folder))
        return layer.pack(chosen, room, compression=compression)

    return pack


def put(wanted: Wanted, pool: RegistryPool) -> tuple[Published, str]:
    out = io.StringIO()
    return publish.publish(wanted, pool, PlainConsole(out)), out.getvalue()


def test_the_image_is_under_its_tag_with_the_source_as_its_last_layer(
    wanted: Wanted, pool: RegistryPool, registry: Registry
) -> None:
    published, _ = put(wanted, pool)
    digest, manifest = registry.manifest(wanted.target.repository, "a" * 40)
    assert published.reference == wanted.target.at(digest=digest)
    config = json.loads(registry.blob(wanted.target.repository, manifest["config"]["digest"]))
    assert config["config"]["User"] == "1000:1000"
    assert config["config"]["Env"][0] == "A=b"
    assert config["created"] == "2023-11-14T22:13:20Z"
    last = registry.blob(wanted.target.repository, manifest["layers"][-1]["digest"])
    unpacked = gzip.decompress(last)
    assert config["rootfs"]["diff_ids"][-1] == f"sha256:{hashlib.sha256(unpacked).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        found = archive.extractfile("workspace/main.py")
        assert found is not None
        assert found.read() == b"print('hello')\n"


def test_the_environment_is_mounted_once_and_only_the_source_moves(
    wanted: Wanted, pool: RegistryPool, folder: Path
) -> None:
    first, _ = put(wanted, pool)
    assert (first.there, first.mounted, first.copied) == (0, 1, 0)
    (folder / "main.py").write_text("print('changed')\n")
    second, _ = put(replace(wanted, target=wanted.target.at(tag="b" * 40)), pool)
    assert (second.there, second.mounted, second.copied) == (1, 0, 0)
    assert second.reference != first.reference
    for one in (first, second):
        assert one.layer.size_bytes < one.moved_bytes < one.layer.size_bytes + 40_000


def test_the_same_commit_again_moves_nothing(wanted: Wanted, pool: RegistryPool) -> None:
    first, _ = put(wanted, pool)
    again, _ = put(wanted, pool)
    assert not first.was_there
    assert again == replace(first, was_there=True, moved_bytes=0, mounted=0)


def test_another_spec_for_the_same_commit_takes_the_tag(
    wanted: Wanted, pool: RegistryPool, registry: Registry
) -> None:
    put(wanted, pool)
    other, _ = put(replace(wanted, change=replace(CHANGE, labels=(("a", "b"),))), pool)
    assert registry.manifest(wanted.target.repository, "a" * 40)[0] == other.reference.digest


def test_an_environment_of_another_registry_is_copied_once(
    wanted: Wanted, pool: RegistryPool, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with a_registry(tmp_path / "other") as other:
        target = replace(wanted.target, host=other.host)
        first, _ = put(replace(wanted, target=target), pool)
        assert (first.copied, first.copied_bytes) == (1, 10240)  # one tar of one small file
        second, _ = put(replace(wanted, target=target.at(tag="b")), pool)
        assert second.copied == 0
        assert other.manifest(target.repository, "b")[0] == second.reference.digest


def test_of_an_index_the_image_for_the_platform_is_taken(
    wanted: Wanted, pool: RegistryPool, registry: Registry
) -> None:
    assert wanted.below.digest is not None
    entry = {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "digest": wanted.below.digest,
        "size": 1,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [entry],
    }
    body = json.dumps(index).encode()
    digest = pool(wanted.below.host).put_manifest(
        wanted.below.repository, "index", body, str(index["mediaType"])
    )
    plain, _ = put(wanted, pool)
    listed, _ = put(replace(wanted, below=wanted.below.at(digest=digest)), pool)
    assert listed.reference == plain.reference


def test_an_environment_that_is_not_there_is_told_with_its_name(
    wanted: Wanted, pool: RegistryPool
) -> None:
    absent = wanted.below.at(digest=f"sha256:{'0' * 64}")
    with pytest.raises(BuildFailed, match=f"but there is no {absent}"):
        put(replace(wanted, below=absent), pool)


def test_a_long_way_is_told_in_a_few_lines_and_a_short_one_in_none() -> None:
    out = io.StringIO()
    progress = publish._Progress(PlainConsole(out))
    for name, size_bytes in (("short", 1_000_000), ("long", 100_000_000)):
        blob = Blob(digest=name, size_bytes=size_bytes, open=io.BytesIO)
        for part in range(101):
            progress.of(blob)(size_bytes * part // 100)
    lines = out.getvalue().splitlines()
    assert len(lines) == publish.TOLD_PARTS
    assert lines[-1] == "sent 101 MB of 101 MB"


def test_what_fails_while_packing_ends_it_all(wanted: Wanted, pool: RegistryPool) -> None:
    def pack(_: compress.Compression) -> layer.Layer:
        raise BuildFailed("main.py changed while it was read")

    with pytest.raises(BuildFailed, match=r"main\.py changed"):
        put(replace(wanted, pack=pack), pool)
