"""The repository of environments in a real registry: records, tags, and what is not a record."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from action import inputs
from action.environment import keeping
from action.environment.keeping import Shelf
from action.environment.keys import Wishes
from action.environment.make import Site
from action.environment.parts import Parts, resolve
from action.failures import RegistryRefused
from action.order import Order
from action.packages.requirements import Requirements
from action.plan import BaseFacts, Interpreter, Origin
from action.registry import reference
from action.registry.client import Registry as Client
from action.workflow import PlainConsole
from cynthus.spec import Spec
from cynthus.wire_image import Environment, Framework
from tests.oci_fixture import Simulator, client
from tests.registry_fixture import Registry

ABOUT = Environment(
    key="a" * 32,
    base="docker.io/library/python:3.11-slim",
    base_digest="sha256:" + "b" * 64,
    python="3.11",
    frameworks=(Framework(name="torch", version="2.6.0", cuda="12.4"),),
    minimum_driver="525.60.13",
    lock="six==1.16.0 --hash=sha256:aa\n",
    sbom="{}",
)
FACTS = BaseFacts(
    reference="r@sha256:1",
    image_id="sha256:2",
    interpreter=Interpreter(version="3.11", machine="x86_64", libc=(2, 36)),
    packages=(("pip", "24.0"),),
    system=(("libc6", "2.36", "amd64"),),
)


@pytest.fixture
def shelf(registry: Registry, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    name = f"{registry.host}/shelf/{abs(hash(request.node.name))}"
    with Client(registry.host) as client:
        yield Shelf(registry=client, place=reference.parse(name))


@pytest.mark.parametrize("value", [ABOUT, FACTS])
def test_a_record_comes_back_as_it_was(shelf: Shelf, value: Environment | BaseFacts) -> None:
    shelf.keep_record("about-1", value)
    shelf.keep_record("about-1", value)  # safe to repeat
    assert shelf.record("about-1", type(value)) == value  # type: ignore[type-var]


def test_the_same_record_is_the_same_artifact(shelf: Shelf) -> None:
    shelf.keep_record("about-1", ABOUT)
    shelf.keep_record("about-2", ABOUT)
    one, other = shelf.image("about-1"), shelf.image("about-2")
    assert one is not None
    assert other is not None
    assert one.digest == other.digest
    assert one.json()["artifactType"] == "application/vnd.cynthus.environment.v1+json"


def test_a_record_of_another_kind_or_none_at_all_is_not_there(shelf: Shelf) -> None:
    assert shelf.record("about-1", Environment) is None
    shelf.keep_record("about-1", FACTS)
    assert shelf.record("about-1", Environment) is None


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"no json"),
        gzip.compress(b'{"key": 7}'),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b" " * (17 << 20)),  # unpacks to more than a record may have
    ],
    ids=["no gzip", "no JSON", "no record", "too deep", "too large"],  # gzip writes the time
)
def test_a_record_that_cannot_be_read_is_not_there(shelf: Shelf, content: bytes) -> None:
    kind = "application/vnd.cynthus.environment.v1+json"
    for part in (b"{}", content):
        shelf.registry.upload(shelf.place.repository, keeping._blob(part))
    body = json.dumps(keeping._manifest(kind, content)).encode()
    oci = "application/vnd.oci.image.manifest.v1+json"
    shelf.registry.put_manifest(shelf.place.repository, "about-1", body, oci)
    assert shelf.record("about-1", Environment) is None


def test_an_image_counts_only_with_its_record(registry: Registry, shelf: Shelf) -> None:
    repository = shelf.place.repository
    pushed = reference.parse(registry.push(repository, b"layer"))
    image = shelf.image(str(pushed.digest))
    assert image is not None
    shelf.name_also(ABOUT.key, image)
    assert shelf.find(ABOUT.key, ABOUT.key) is None
    shelf.keep_record(f"about-{ABOUT.key}", ABOUT)
    found = shelf.find(ABOUT.key, ABOUT.key)
    assert found is not None
    assert (found.reference, found.about) == (pushed, ABOUT)


def test_an_image_and_a_record_of_two_environments_are_none(
    registry: Registry, shelf: Shelf
) -> None:
    repository = shelf.place.repository
    one, other = (
        shelf.image(str(reference.parse(registry.push(repository, layer)).digest))
        for layer in (b"one", b"other")
    )
    assert one is not None
    assert other is not None
    shelf.name_also(ABOUT.key, one)
    shelf.name_also("b" * 32, other)
    shelf.keep_record(f"about-{'b' * 32}", ABOUT)  # the record of another key
    assert shelf.find("b" * 32, "b" * 32) is None
    shelf.keep_record("about-1", ABOUT)
    shelf.name_also("in-1", other)  # two jobs at once: the image is the other's
    assert shelf.find("in-1", "1") is None
    shelf.name_also("in-1", one)
    found = shelf.find("in-1", "1")
    assert found is not None
    assert found.reference.digest == one.digest


@pytest.mark.parametrize("key", ["", "../v2", "in-1", "A" * 32, "a" * 32 + "\n"])
def test_a_record_whose_key_is_none_is_of_no_image(
    registry: Registry, shelf: Shelf, key: str
) -> None:
    pushed = reference.parse(registry.push(shelf.place.repository, b"layer"))
    image = shelf.image(str(pushed.digest))
    assert image is not None
    shelf.name_also("in-1", image)
    shelf.keep_record("about-1", replace(ABOUT, key=key))
    assert shelf.find("in-1", "1") is None


def test_where_tags_may_not_move_what_is_there_stays_and_nothing_fails(tmp_path: Path) -> None:
    sim = Simulator("artifact-registry", tmp_path)
    try:
        with client(sim.host, sim.kind) as registry:
            place = reference.parse(f"{sim.host}/acme/train/env/cynthus.env")
            shelf = Shelf(registry=registry, place=place)
            shelf.keep_record("about-1", ABOUT)
            shelf.keep_record("about-2", replace(ABOUT, lock=None))
            other = shelf.image("about-2")
            assert other is not None
            immutable = {"method": "PUT", "path": "/manifests/about-", "times": -1}
            sim.fault("error", status=400, code="DENIED", **immutable)
            assert not shelf.name_also("about-1", other)
            shelf.keep_record("about-1", replace(ABOUT, lock=None))
            assert shelf.record("about-1", Environment) == ABOUT
            with pytest.raises(RegistryRefused):
                shelf.keep_record("about-3", ABOUT)
    finally:
        sim.stop()


def test_a_base_known_from_another_registrys_name_is_taken_from_where_it_was_asked_for(
    shelf: Shelf, tmp_path: Path
) -> None:
    """The same digest lies in a mirror: its record may come from whoever pulled it elsewhere."""
    known = shelf.place.at(digest="sha256:" + "c" * 64)
    elsewhere = f"elsewhere.example/python@{known.digest}"
    shelf.keep_record(f"base-{'c' * 32}", replace(FACTS, reference=elsewhere, digest=None))
    order = Order(
        spec=Spec(name="tiny", run="python main.py"),
        root=tmp_path,
        origin=Origin(),
        push_to=None,
        login=None,
        base_image=None,
        engine_wish="auto",
        machine=inputs.machine({"HOME": str(tmp_path), "PATH": "/nonexistent"}),
        today=date(2026, 1, 31),
    )
    console = PlainConsole(io.StringIO())
    site = Site(order=order, shelf=shelf, registries=lambda _: shelf.registry, console=console)
    wishes = Wishes(
        base=str(known), python=None, lines=(), pinned=True, system=("git",), platform="linux/amd64"
    )
    parts = Parts(name=str(known), entry=None, known=known, wishes=wishes, declared=Requirements())
    found = resolve(site, parts)
    assert found.facts == replace(FACTS, reference=str(known), digest=known.digest)
