"""Refuses a body that has unknown fields, wrong types or unknown words, as the real parser does.

The schemas are those of the discovery documents that google-api-python-client ships.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simulators.gcp_http import GoogleError

_FORMS = {
    "google-datetime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"),
    "google-duration": re.compile(r"-?\d{1,12}(\.\d{1,9})?s"),
}


@cache
def described(document: str) -> Mapping[str, Any]:
    """Return a discovery document (`compute.v1`)."""
    package = find_spec("googleapiclient")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "discovery_cache/documents"
    found: Mapping[str, Any] = json.loads((folder / f"{document}.json").read_text())
    return found


def check_shape(body: Mapping[str, Any], schema: str, document: str = "compute.v1") -> None:
    """Refuse a body that does not have the shape of a schema (`Instance`).

    Raises GoogleError 400.
    """
    schemas = described(document)["schemas"]
    _check(schema[:1].lower() + schema[1:], body, {"$ref": schema}, schemas)


def _check(at: str, value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    if value is None:
        return  # null is "not set" to the parser
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = str(schema.get("type"))
    if kind == "object":
        _object(at, value, schema, schemas)
    elif kind == "array":
        if not isinstance(value, list):
            raise _wrong(at, value)
        for index, item in enumerate(value):
            _check(f"{at}[{index}]", item, schema["items"], schemas)
    elif kind == "string":
        _text(at, value, schema)
    elif not _is_plain(value, kind):
        raise _wrong(at, value)


def _is_plain(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":  # the parser takes a number written as text too
        return not isinstance(value, bool) and str(value).lstrip("-").isdigit()
    return True


def _object(at: str, value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        raise _wrong(at, value)
    known = schema.get("properties", {})
    for name, item in value.items():
        inner = known.get(name, schema.get("additionalProperties"))
        if inner is None:
            raise GoogleError(
                400,
                f"Invalid JSON payload received. Unknown name \"{name}\" at '{at}': "
                "Cannot find field.",
                reason="badRequest",
            )
        _check(f"{at}.{name}", item, inner, schemas)


def _text(at: str, value: Any, schema: Mapping[str, Any]) -> None:
    whole = schema.get("format") in {"int64", "uint64"}
    if whole and isinstance(value, int) and not isinstance(value, bool):
        return
    if "enum" in schema and isinstance(value, int) and 0 <= value < len(schema["enum"]):
        return  # `enum-encoding=int`
    if not isinstance(value, str) or (whole and not value.lstrip("-").isdigit()):
        raise _wrong(at, value)
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(at, value)
    if schema.get("format") in _FORMS and not _FORMS[schema["format"]].fullmatch(value):
        raise _wrong(at, value)


def _wrong(at: str, value: Any) -> GoogleError:
    return GoogleError(400, f"Invalid value at '{at}', {json.dumps(value)}", reason="invalid")
