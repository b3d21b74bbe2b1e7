"""The standard's own schema of CycloneDX 1.6, which judges our bills of materials."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

SCHEMAS = files("cyclonedx.schema") / "_res"


def _of_the_standard(name: str) -> Resource[Any]:
    return DRAFT7.create_resource(json.loads((SCHEMAS / name).read_text("utf-8")))


def cyclonedx_judge() -> Draft7Validator:
    """The standard's own schema, with the two that it refers to."""
    others = ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    registry = Registry[Any]().with_resources(
        (f"http://cyclonedx.org/schema/{name}", _of_the_standard(name)) for name in others
    )
    schema = json.loads((SCHEMAS / "bom-1.6.SNAPSHOT.schema.json").read_text("utf-8"))
    return Draft7Validator(schema, registry=registry)
