"""Check a JSON value against one of the project's schemas: the only door to jsonschema.

The spec file is not read through here (`cynthus.specreader` says why); messages between programs
are, and the tests use it as an independent referee of the spec.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource

SUFFIX = ".schema.json"


@dataclass(frozen=True, order=True)
class Violation:
    """One place where a value is not what its schema says; `path` is like `data/0/source`."""

    path: str
    message: str


def check(schema_name: str, value: object) -> list[Violation]:
    """Return every violation, in the order of their paths; none means the value fits.

    `schema_name` is the file's name without `.schema.json`, such as `cynthus` or `run_request`.
    Messages name the rule and not the value, since values may be secret.
    """
    errors = _validator(schema_name).iter_errors(value)
    return sorted({_violation(error) for error in errors})


def load(schema_name: str) -> dict[str, Any]:
    """Return a schema as a JSON value."""
    text = (_folder() / f"{schema_name}{SUFFIX}").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def schema_names() -> list[str]:
    """Return the names of all schemas there are."""
    found = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))


def _folder() -> Traversable:
    """Return `cynthus/_schemas` of an installed package, or `schemas` beside it in a checkout."""
    installed = files("cynthus") / "_schemas"
    if installed.is_dir():
        return installed
    return Path(__file__).resolve().parent.parent / "schemas"


@cache
def _validator(schema_name: str) -> Draft202012Validator:
    return Draft202012Validator(load(schema_name), registry=_registry())


@cache
def _registry() -> Registry[Any]:
    """Return all schemas by their `$id`, so that one may refer to another without a network."""
    schemas = (load(name) for name in schema_names())
    return Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas if "$id" in schema
    )


def _violation(error: ValidationError) -> Violation:
    """Return the deepest cause: of several alternatives, the one that fits best."""
    cause = best_match([error]) or error
    path = "/".join(str(part) for part in cause.absolute_path)
    return Violation(path, _message(cause))


_MESSAGES = {
    "required": "should have the keys {}",
    "type": "should be of type {}",
    "const": "should be {}",
    "enum": "should be one of {}",
    "pattern": "should match {}",
    "minimum": "should be at least {}",
    "maximum": "should be at most {}",
    "exclusiveMinimum": "should be above {}",
    "minLength": "should have at least {} characters",
    "maxLength": "should have at most {} characters",
    "minItems": "should have at least {} items",
    "maxItems": "should have at most {} items",
    "maxProperties": "should have at most {} keys",
}


def _message(error: ValidationError) -> str:
    rule = str(error.validator)
    wanted = json.dumps(error.validator_value, ensure_ascii=False)
    if rule == "additionalProperties":
        known = ", ".join(
            (error.schema if isinstance(error.schema, dict) else {}).get("properties", ())
        )
        return f"should have no keys but {known}"
    if rule == "uniqueItems":
        return "should hold nothing twice"
    return _MESSAGES.get(rule, f"should fit the rule `{rule}`").format(wanted)
