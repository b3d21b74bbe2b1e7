"""Which base image a build takes, and how references are read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from action.engine import base
from action.engine.engine import repository_of
from cynthus.errors import UserError
from cynthus.spec import ImageSpec

CATALOGUE = base.read_catalogue()


@pytest.mark.parametrize(
    ("image", "override", "reference"),
    [
        (ImageSpec(), None, "docker.io/library/python:3.11-slim-bookworm"),
        (ImageSpec(python="3.12"), None, "docker.io/library/python:3.12-slim-bookworm"),
        (ImageSpec(base="ghcr.io/acme/base:1"), None, "ghcr.io/acme/base:1"),
        (ImageSpec(base="pytorch"), "cynthus/base:x", "cynthus/base:x"),
        (ImageSpec(), "python", "docker.io/library/python:3.11-slim-bookworm"),
    ],
)
def test_the_base_is_the_inputs_then_the_specs_then_python(
    image: ImageSpec, override: str | None, reference: str
) -> None:
    assert base.choose(image, override, CATALOGUE)[0] == reference


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (ImageSpec(base="pytroch"), "image/base: should be one of python, cuda, pytorch, tensor"),
        (ImageSpec(base="pytorch", python="3.11"), "image/python: should be 3.12 with the base"),
        (ImageSpec(python="3.8"), "image/python: should be"),
    ],
)
def test_a_base_that_cannot_be_is_refused(image: ImageSpec, part: str) -> None:
    with pytest.raises(UserError) as caught:
        base.choose(image, None, CATALOGUE)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "host"),
    [
        ("python:3.11", "registry-1.docker.io"),
        ("acme/base:1", "registry-1.docker.io"),
        ("docker.io/library/python:3", "registry-1.docker.io"),
        ("ghcr.io/acme/base@sha256:0", "ghcr.io"),
        ("localhost/base", "localhost"),
        ("127.0.0.1:5055/base", "127.0.0.1:5055"),
    ],
)
def test_a_reference_names_its_registry(reference: str, host: str) -> None:
    assert base.registry_host(reference) == host


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("127.0.0.1:5055/acme/tiny:abc", "127.0.0.1:5055/acme/tiny"),
        ("docker.io/library/python:3.11", "python"),
        ("docker.io/acme/x", "acme/x"),
        ("ghcr.io/a/b@sha256:0", "ghcr.io/a/b"),
    ],
)
def test_repositories_are_named_as_docker_prints_them(reference: str, repository: str) -> None:
    assert repository_of(reference) == repository


@pytest.mark.parametrize(
    ("text", "version"), [("2.36", (2, 36)), ("2.36.1", (2, 36)), ("", None), ("x.y", None)]
)
def test_glibc_says_its_version(text: str, version: tuple[int, int] | None) -> None:
    assert base.libc_version(text) == version


def test_another_set_of_debian_packages_is_another_offline_base() -> None:
    assert base.offline_tag(("a", "b")) == base.offline_tag(("b", "a")) != base.offline_tag(())


def test_the_catalogue_says_of_every_base_what_a_user_needs_to_know() -> None:
    assert "python" in CATALOGUE
    for entry in CATALOGUE.values():
        assert entry.python
        assert ":" in entry.reference.partition("/")[2]


def test_the_look_into_an_image_tells_its_python_packages_and_its_debian_packages() -> None:
    """Asked of this machine's own Python, on the Debian or Ubuntu that CI runs on."""
    told = subprocess.check_output([sys.executable, "-c", base._LOOK], text=True)
    found = json.loads(told)
    assert found["version"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert "pytest" in dict(found["packages"])
    versions = {name: version for name, version, _ in found["system"]}
    asked = ["dpkg-query", "--show", "--showformat", "${Version}", "coreutils"]
    assert versions["coreutils"] == subprocess.check_output(asked, text=True)
    assert found["distribution"] in {"debian", "ubuntu"}
    assert found["release"].isalpha()
