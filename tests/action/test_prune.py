"""What the Action asks the server before it deletes an image."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from action import inputs
from action.order import Built
from action.prune import prune
from action.registry.client import Blob, Registry, digest_of
from action.registry.registries import MANIFEST_TYPES
from action.server import Server
from action.submit import Sender
from action.workflow import JobConsole
from cynthus.errors import CynthusError
from cynthus.wire_image import Environment, ImagesInUse
from tests.action.world import World
from tests.oci_fixture import LOGIN, PASSWORD, USER, Simulator

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SOURCE = "https://github.com/Acme/Train"


def sender(world: World, said: io.StringIO | None = None, **more: str) -> Sender:
    given = inputs.read(world.environment(**more))
    assert given.job.token_door is not None
    console = JobConsole(said or io.StringIO())
    return Sender(inputs=given, door=given.job.token_door, console=console, wait=lambda _: None)


def ask(world: World) -> ImagesInUse:
    known = sender(world)
    server = Server(url=world.url, audience="cynthus", door=known.door)
    return prune.in_use(server, known.console)


def test_the_server_says_what_is_in_use_to_the_jobs_token(world: World) -> None:
    world.images = {"digests": ["sha256:" + "a" * 64], "keys": ["b" * 32]}
    found = ask(world)
    assert found == ImagesInUse(digests=("sha256:" + "a" * 64,), keys=("b" * 32,))
    asked = world.requests[-1]
    assert (asked.method, asked.path) == ("GET", "/api/v1/images")
    assert asked.token == "header.cynthus.1"


@pytest.mark.parametrize("said", [{}, {"digests": []}, {"digests": 5, "keys": []}])
def test_a_list_that_is_not_whole_frees_nothing(world: World, said: dict[str, object]) -> None:
    world.images = said
    with pytest.raises(CynthusError):
        ask(world)


@pytest.mark.parametrize(
    ("text", "days"), [("", 30), ("30d", 30), ("24h", 1), ("1d12h", 1.5), ("0", None)]
)
def test_how_long_images_are_kept(world: World, text: str, days: float | None) -> None:
    keep = inputs.read(world.environment(INPUT_KEEP_IMAGES=text)).keep_images
    assert (keep and keep.total_seconds() / 86400) == days


@pytest.mark.parametrize("text", ["1h", "soon", "-3d", "30"])
def test_a_time_that_is_none_or_too_short_is_told(world: World, text: str) -> None:
    with pytest.raises(CynthusError, match=r"keep-images.*a day or more"):
        inputs.read(world.environment(INPUT_KEEP_IMAGES=text))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    simulator = Simulator("distribution", tmp_path / "registry")
    with Registry(simulator.host, LOGIN) as found:
        yield found
    simulator.stop()


def put(registry: Registry, repository: str, tag: str) -> None:
    labels = {"org.opencontainers.image.source": SOURCE, "tag": tag}
    config = json.dumps({"created": "2026-01-01T00:00:00Z", "config": {"Labels": labels}}).encode()
    blob = Blob(digest=digest_of(config), size_bytes=len(config), open=lambda: io.BytesIO(config))
    registry.upload(repository, blob)
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config)}
    manifest = {"schemaVersion": 2, "config": {**part, "digest": blob.digest}, "layers": []}
    body = json.dumps({**manifest, "mediaType": MANIFEST_TYPES[1]}).encode()
    registry.put_manifest(repository, tag, body, MANIFEST_TYPES[1])


BUILT = Built(
    image="x",
    digest="x",
    engine="docker",
    base="x",
    cached=True,
    size_bytes=1,
    about=Environment(key="1" * 32, base="x", base_digest=""),
)


def wishes(registry: Registry) -> dict[str, str]:
    place = {"INPUT_REGISTRY": f"{registry.host}/acme/train"}
    return {**place, "INPUT_USERNAME": USER, "INPUT_PASSWORD": PASSWORD}


def test_a_job_deletes_what_is_old_where_its_images_lie(world: World, registry: Registry) -> None:
    world.images = {"digests": [], "keys": ["2" * 32]}
    said = io.StringIO()
    put(registry, "acme/train/digits", "c" * 40)
    for key in ("1", "2", "3"):
        put(registry, "acme/train/cynthus.env", key * 32)
    prune.after_run(sender(world, said, **wishes(registry)), "digits", BUILT, NOW)
    assert list(registry.tags("acme/train/digits")) == []
    assert list(registry.tags("acme/train/cynthus.env")) == ["1" * 32, "2" * 32]
    assert "deleted 2 images older than 30 days" in said.getvalue()


@pytest.mark.parametrize(
    ("more", "built"),
    [({"INPUT_KEEP_IMAGES": "0"}, BUILT), ({}, replace(BUILT, about=None))],
)
def test_nothing_is_even_asked_for(world: World, more: dict[str, str], built: Built) -> None:
    prune.after_run(sender(world, **more), "digits", built, NOW)
    assert world.requests == []


def test_a_registry_that_is_away_is_a_notice(world: World) -> None:
    world.images = {"digests": [], "keys": []}
    said = io.StringIO()
    asked = sender(world, said, INPUT_REGISTRY="127.0.0.1:9/acme/train")
    prune.after_run(asked, "digits", BUILT, NOW)
    assert "::notice title=Cynthus::old images were left" in said.getvalue()
