"""Catalogue, Dockerfiles, labels, lock files and docs say the same about the runner images."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from action.catalogue import FILE, ROOM, Entry, read_catalogue, read_programs
from docs.generate_catalogue import PAGE, catalogue_page

IMAGES = read_catalogue()
ALL = {**IMAGES, **read_programs()}
ENTRIES = pytest.mark.parametrize("entry", ALL.values(), ids=lambda entry: entry.name)
WITH_FRAMEWORKS = pytest.mark.parametrize(
    "entry", [entry for entry in ALL.values() if entry.frameworks], ids=lambda entry: entry.name
)
DIGEST = "sha256:" + "0" * 64
PINS = re.compile(r"^([a-z0-9][a-z0-9-]*)==([^\s;\\]+)", re.MULTILINE)
CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")  # CUDA 13's wheel, 12's wheel


def dockerfile(entry: Entry) -> str:
    return (ROOM / entry.name / "Dockerfile").read_text("utf-8")


def arguments(entry: Entry) -> dict[str, str]:
    return dict(re.findall(r"^ARG ([A-Z_]+)=(\S*)$", dockerfile(entry), re.MULTILINE))


def pins(entry: Entry, lock: str) -> dict[str, str]:
    return dict(PINS.findall((ROOM / entry.name / lock).read_text("utf-8")))


# ── the file ────────────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_is_as_its_schema_says() -> None:
    schema = json.loads((ROOM / "catalogue.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(FILE.read_bytes()))) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("published", {"3.12": "ghcr.io/acme/python:3.12"}),  # a tag is not a digest
        ("bases", {"3.12": "python:3.12"}),
        ("cuda", "13.0"),  # without a driver
        ("python", []),
        ("frameworks", {"torch": "2.13.0+cpu"}),
        ("color", "red"),
    ],
)
def test_the_schema_refuses_what_would_mislead(key: str, value: object) -> None:
    schema = json.loads((ROOM / "catalogue.schema.json").read_text("utf-8"))
    found = yaml.safe_load(FILE.read_bytes())
    found["images"]["python"][key] = value
    assert not Draft202012Validator(schema).is_valid(found)


def test_every_image_with_a_dockerfile_is_in_the_catalogue() -> None:
    assert {path.parent.name for path in ROOM.glob("*/Dockerfile")} == set(ALL)


def test_the_page_about_the_catalogue_is_current() -> None:
    assert PAGE.read_text("utf-8") == catalogue_page(), "run `make docs`"


# ── what is pulled ──────────────────────────────────────────────────────────────────────────────


def test_what_was_published_is_pulled_by_digest_and_the_rest_by_tag() -> None:
    ours = f"ghcr.io/acme/python@{DIGEST}"
    entry = replace(IMAGES["python"], published={"3.12": ours})
    assert entry.at("3.12") == ours
    assert entry.at() == entry.at("3.11") == "docker.io/library/python:3.11-slim-bookworm"
    assert entry.at("3.12.4") == "docker.io/library/python:3.12.4-slim-bookworm"


@ENTRIES
def test_every_python_has_a_pinned_base(entry: Entry) -> None:
    assert set(entry.bases) == set(entry.python)
    for python, base in entry.bases.items():
        assert f":{python}-" in base or "ubuntu24.04" in base  # Ubuntu 24.04 has Python 3.12
    assert set(entry.published) <= set(entry.python)


@WITH_FRAMEWORKS
def test_until_ours_is_there_another_of_the_same_version_is_pulled(entry: Entry) -> None:
    (version,) = entry.frameworks.values()
    assert entry.published or version in entry.reference


# ── Dockerfiles ─────────────────────────────────────────────────────────────────────────────────


@ENTRIES
def test_a_dockerfile_builds_by_itself_what_the_catalogue_says(entry: Entry) -> None:
    found = arguments(entry)
    assert found["BASE"] == entry.bases[entry.python[0]]
    assert found["PYTHON"] == entry.python[0]
    assert (found.get("CUDA"), found.get("DRIVER")) == (entry.cuda, entry.minimum_driver)


@ENTRIES
def test_a_dockerfile_labels_what_is_inside(entry: Entry) -> None:
    text = dockerfile(entry)
    assert f'dev.cynthus.runner-image="{entry.name}"' in text
    assert 'dev.cynthus.python="${PYTHON}"' in text
    frameworks = ",".join(f"{name}={version}" for name, version in entry.frameworks.items())
    assert re.findall(r'dev\.cynthus\.frameworks="(.*)"', text) == (
        [frameworks] if frameworks else []
    )
    for label in ("title", "source", "licenses"):
        assert f"org.opencontainers.image.{label}=" in text


@ENTRIES
def test_a_dockerfile_needs_no_front_end_and_ends_as_a_plain_user(entry: Entry) -> None:
    text = dockerfile(entry)
    assert "syntax=" not in text
    assert "<<" not in text
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] in {"1000:1000", "10001:10001"}


# ── lock files ──────────────────────────────────────────────────────────────────────────────────


@WITH_FRAMEWORKS
def test_the_lock_has_the_frameworks_and_the_cuda_of_the_catalogue(entry: Entry) -> None:
    found = pins(entry, "requirements.lock")
    assert {name: found[name] for name in entry.frameworks} == dict(entry.frameworks)
    (runtime,) = [found[name] for name in CUDA_RUNTIMES if name in found]
    assert ".".join(runtime.split(".")[:2]) == entry.cuda


@WITH_FRAMEWORKS
def test_the_lock_without_cuda_has_the_same_frameworks(entry: Entry) -> None:
    found = pins(entry, "requirements.cpu.lock")
    for name, version in entry.frameworks.items():
        assert (found.get(name) or found[f"{name}-cpu"]).partition("+")[0] == version
    assert [name for name in found if name.startswith("nvidia")] == []


@WITH_FRAMEWORKS
def test_the_offline_form_has_the_same_frameworks(entry: Entry) -> None:
    versions = {package.partition("==")[2] for package in entry.offline_packages or ()}
    assert versions == set(entry.frameworks.values())


@pytest.mark.parametrize("path", sorted(ROOM.glob("*/*.lock")), ids=lambda p: p.parent.name)
def test_a_lock_is_newer_than_what_it_was_made_from(path: Path) -> None:
    wanted = path.with_suffix(".in").read_text("utf-8")
    names = {re.split(r"[=\[]", line)[0] for line in wanted.splitlines() if line[:1].isalpha()}
    assert names <= set(dict(PINS.findall(path.read_text("utf-8"))))
