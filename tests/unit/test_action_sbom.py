"""The bill of materials: CycloneDX 1.6, the same text for the same environment."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from jsonschema import Draft7Validator

from action.environment import sbom
from action.environment.sbom import Contents, SystemPackage
from tests.cyclonedx_judge import cyclonedx_judge

DIGEST = "sha256:" + "c" * 64
CONTENTS = Contents(
    key="a" * 32,
    base="docker.io/library/python:3.11-slim",
    base_digest=DIGEST,
    python=(("torch", "2.6.0+cu124"), ("Typing_Extensions", "4.12.2")),
    sha256={"typing-extensions": "d" * 64},
    distribution="debian",
    release="bookworm",
    system=(SystemPackage(name="libstdc++6", version="12.2.0-14", architecture="amd64"),),
)


def test_everything_is_a_component_with_its_package_url() -> None:
    found = json.loads(sbom.text(CONTENTS))
    assert [part.get("purl") for part in found["components"]] == [
        f"pkg:oci/python@sha256%3A{'c' * 64}?repository_url=docker.io/library/python",
        "pkg:pypi/torch@2.6.0%2Bcu124",
        "pkg:pypi/typing-extensions@4.12.2",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=bookworm",
    ]
    assert found["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert found["components"][2]["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]


@pytest.fixture(scope="module")
def judge() -> Draft7Validator:
    return cyclonedx_judge()


def test_the_standards_own_schema_takes_it(judge: Draft7Validator) -> None:
    found = json.loads(sbom.text(CONTENTS))
    assert list(judge.iter_errors(found)) == []
    del found["components"][0]["type"]
    assert list(judge.iter_errors(found))


def test_it_has_the_form_that_cyclonedx_1_6_wants() -> None:
    """https://cyclonedx.org/docs/1.6/json/: the members, their types and patterns."""
    found = json.loads(sbom.text(CONTENTS))
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"]
    )
    parts = [found["metadata"]["component"], *found["components"]]
    for part in parts:
        assert part["type"] in {"container", "library"}
        assert part["name"]
        assert set(part) <= {"type", "bom-ref", "name", "version", "purl", "hashes"}
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    [dependency] = found["dependencies"]
    assert [dependency["ref"], *dependency["dependsOn"]] == references


def test_order_and_spelling_of_what_goes_in_do_not_matter() -> None:
    turned = replace(CONTENTS, python=(("typing-extensions", "4.12.2"), ("Torch", "2.6.0+cu124")))
    assert sbom.text(turned) == sbom.text(CONTENTS)


def test_another_environment_has_another_serial_number() -> None:
    one, other = (json.loads(sbom.text(replace(CONTENTS, key=key * 32))) for key in "ab")
    assert one["serialNumber"] != other["serialNumber"]


def test_a_base_without_a_registry_has_a_name_only() -> None:
    local = replace(CONTENTS, base="cynthus/base:offline-1", base_digest="", python=(), system=())
    [base] = json.loads(sbom.text(local))["components"]
    assert base == {
        "type": "container",
        "bom-ref": "base:cynthus/base:offline-1",
        "name": "cynthus/base:offline-1",
    }
