"""Google's own descriptions of its APIs (discovery documents), as a judge of exchanges.

The documents are those that google-api-python-client ships. Their language is described at
https://developers.google.com/discovery/v1/reference/apis.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import googleapiclient

FOLDER = Path(googleapiclient.__file__).parent / "discovery_cache/documents"
DOCUMENTS = (
    "compute.v1",
    "storage.v1",
    "secretmanager.v1",
    "iamcredentials.v1",
    "sts.v1",
    "cloudbilling.v1",
)

# What the real services answer although no discovery document has it: verb → why.
UNDESCRIBED = {
    "oauth2.certs": "Google's public keys, https://www.googleapis.com/oauth2/v3/certs",
    "oauth2.token": "the token endpoint of key files has no discovery document",
    "storage.xml": "the XML API has no discovery document",
    "storage.batch": "many requests in one body, each of which the documents describe alone",
}
# Query parameters of every API that the documents leave out.
_SYSTEM_PARAMETERS = {"$alt", "uploadType", "upload_id"}
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
# Where Google's own client sends 64-bit numbers plainly, which the service takes: verb → what.
_PLAIN_NUMBERS = {
    "storage.objects.compose": "the generations of the sources",
    "storage.buckets.insert": "softDeletePolicy.retentionDurationSeconds",
    "storage.buckets.patch": "softDeletePolicy.retentionDurationSeconds",
}
_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one API."""

    verb: str
    http_method: str
    path: re.Pattern[str]
    body: Mapping[str, Any]
    document: Mapping[str, Any]
    upload: bool = False  # reached by the path for uploads

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what may stand in path and query."""
        return {**self.document.get("parameters", {}), **self.body.get("parameters", {})}

    def schema(self, part: str) -> dict[str, Any] | None:
        """Return the schema of `request` or `response`, None where it has no body."""
        return self.body.get(part)


@dataclass
class _Place:
    """Where in a value we stand, and what is wrong so far."""

    operation: Operation
    is_request: bool
    problems: list[str] = field(default_factory=list)

    def wrong(self, at: str, text: str) -> None:
        self.problems.append(f"{'request' if self.is_request else 'answer'} at {at or '/'}: {text}")


class Description:
    """Judges exchanges; an empty list means nothing is wrong."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.operations = [op for document in documents for op in _operations(document)]

    def operation(self, method: str, path: str) -> Operation | None:
        """Return the method that a request is for, the one with a custom verb first."""
        for operation in self.operations:
            if operation.http_method == method and operation.path.fullmatch(path):
                return operation
        return None

    def check(self, seen: Mapping[str, Any]) -> list[str]:
        """Say what is wrong with one line of `--exchanges`."""
        if any(seen["verb"].startswith(verb) for verb in UNDESCRIBED):
            return []
        title = f"{seen['method']} {seen['path']} → {seen['status']}"
        # The later parts of a resumable upload are sent with PUT to where a POST began it, and
        # DELETE gives it up.
        resumed = seen["method"] in {"PUT", "DELETE"} and "upload_id=" in seen["query"]
        method = "POST" if resumed else seen["method"]
        operation = self.operation(method, seen["path"])
        if operation is None:
            return [f"{title}: Google describes no such method"]
        problems = []
        if operation.verb != seen["verb"]:
            problems.append(f"this is {operation.verb}, not {seen['verb']}")
        if 0 < seen["status"] < 400 and not resumed:
            problems += _request_problems(operation, seen)
        problems += _answer_problems(operation, seen)
        return [f"{title}: {problem}" for problem in problems]


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    found = [op for body in _methods(document) for op in _paths(document, body)]
    # `…/versions/{v}:access` before `…/versions/{v}`, and what is literal before what is not.
    yield from sorted(found, key=lambda op: (":" not in op.body["path"], -len(op.path.pattern)))


def _methods(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from node.get("methods", {}).values()
    for resource in node.get("resources", {}).values():
        yield from _methods(resource)


def _paths(document: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[Operation]:
    plain = "/" + document["servicePath"] + body["path"]
    paths = [(plain, False)]
    if body.get("useMediaDownloadService"):
        paths.append(("/download" + plain, False))
    uploads = body.get("mediaUpload", {}).get("protocols", {}).values()
    paths += [(protocol["path"], True) for protocol in uploads]
    for path, upload in dict(paths).items():
        yield Operation(
            verb=body["id"],
            http_method=body["httpMethod"],
            path=_pattern(path, body.get("parameters", {})),
            body=body,
            document=document,
            upload=upload,
        )


def _pattern(template: str, parameters: Mapping[str, Any]) -> re.Pattern[str]:
    def one(found: re.Match[str]) -> str:
        name = found[2]
        if not found[1]:
            return f"(?P<{name}>[^/]+)"
        inner = parameters.get(name, {}).get("pattern", ".+")
        return f"(?P<{name}>{inner.removeprefix('^').removesuffix('$')})"

    escaped = re.sub(r"\\([{}+])", r"\1", re.escape(template))
    return re.compile(re.sub(r"\{(\+?)(\w+)\}", one, escaped))


def _request_problems(operation: Operation, seen: Mapping[str, Any]) -> list[str]:
    place = _Place(operation, is_request=True)
    asked: dict[str, list[str]] = {}
    for name, value in parse_qsl(seen["query"], keep_blank_values=True):
        asked.setdefault(name, []).append(value)
    _check_query(place, asked)
    found = operation.path.fullmatch(seen["path"])
    for name, value in (found.groupdict() if found else {}).items():
        _check_parameter(place, name, unquote(value))
    schema = operation.schema("request")
    sent = seen["request"]
    if schema is None and sent:
        place.wrong("", "the method takes no body")
    elif schema is not None and sent is not None:
        _check(place, "", sent, schema)
    return place.problems


def _check_query(place: _Place, asked: Mapping[str, list[str]]) -> None:
    known = place.operation.parameters
    for name, values in asked.items():
        if name in _SYSTEM_PARAMETERS:
            continue
        if known.get(name, {}).get("location") != "query":
            place.wrong("", f"the query has no {name!r}")
            continue
        if len(values) > 1 and not known[name].get("repeated"):
            place.wrong("", f"{name!r} stands more than once in the query")
        for value in values:
            _check_parameter(place, name, value)
    for name, parameter in known.items():
        if parameter.get("required") and parameter["location"] == "query" and name not in asked:
            place.wrong("", f"the query lacks {name!r}")


def _check_parameter(place: _Place, name: str, value: str) -> None:
    parameter = place.operation.parameters.get(name)
    if parameter is None:
        return
    at = f"?{name}"
    match parameter["type"]:
        case "integer":
            if not re.fullmatch(r"-?\d+", value):
                place.wrong(at, f"{value!r} is not a whole number")
                return
            low = int(parameter.get("minimum", -(2**63)))
            high = int(parameter.get("maximum", 2**63))
            if not low <= int(value) <= high:
                place.wrong(at, f"{value} is not from {low} to {high}")
        case "boolean":
            if value.lower() not in {"true", "false"}:
                place.wrong(at, f"{value!r} is not a boolean")
        case _:
            _check_string(place, at, value, parameter)


def _answer_problems(operation: Operation, seen: Mapping[str, Any]) -> list[str]:
    place = _Place(operation, is_request=False)
    status, body = seen["status"], seen["response"]
    if status >= 400:
        # A fault may send a page of HTML, as a proxy does: then there is no JSON to judge.
        if body is not None:
            _check_error(place, status, body)
    elif 200 <= status < 300 and body is not None:
        schema = operation.schema("response")
        if schema is not None:
            _check(place, "", body, schema)
        elif body != {}:
            place.wrong("", "the method answers with an empty body")
    return place.problems


def _check_error(place: _Place, status: int, body: Any) -> None:
    """https://google.aip.dev/193 and https://cloud.google.com/storage/docs/json_api/v1/status-codes."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):  # OAuth's own shape, RFC 6749 §5.2
        return
    if not isinstance(error, dict) or set(body) != {"error"}:
        place.wrong("", f"an error is {{'error': …}}, found {body!r:.100}")
        return
    unknown = set(error) - {"code", "message", "errors", "status", "details"}
    if unknown:
        place.wrong("/error", f"unknown {sorted(unknown)}")
    if error.get("code") != status or not isinstance(error.get("message"), str):
        place.wrong("/error", "needs `code` (the status) and `message`")
    for each in error.get("errors", []):
        if not {"message", "domain", "reason"} <= set(each):
            place.wrong("/error/errors", f"needs message, domain, reason: {each}")


def _check(place: _Place, at: str, value: Any, schema: Mapping[str, Any]) -> None:
    if "$ref" in schema:
        schema = place.operation.document["schemas"][schema["$ref"]]
    match schema.get("type", "any"):
        case "object":
            _check_object(place, at, value, schema)
        case "array":
            if not isinstance(value, list):
                place.wrong(at, f"{value!r:.60} is not a list")
                return
            for index, item in enumerate(value):
                _check(place, f"{at}/{index}", item, schema["items"])
        case "any":
            return
        case "boolean":
            if not isinstance(value, bool):
                place.wrong(at, f"{value!r:.60} is not a boolean")
        case "integer" | "number":
            _check_number(place, at, value, schema)
        case _:
            _check_text(place, at, value, schema)


def _check_object(place: _Place, at: str, value: Any, schema: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        place.wrong(at, f"{value!r:.60} is not an object")
        return
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    for name, item in value.items():
        inner = known.get(name, rest)
        if inner is None:
            place.wrong(at, f"unknown field {name!r}")
        elif item is not None or not place.is_request:  # null is "not set", google-auth sends it
            _check(place, f"{at}/{name}", item, inner)
    if place.is_request:
        for name, inner in known.items():
            needed = inner.get("annotations", {}).get("required", [])
            if place.operation.verb in needed and name not in value:
                place.wrong(at, f"{name!r} is required for {place.operation.verb}")


def _check_number(place: _Place, at: str, value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        place.wrong(at, f"{value!r:.60} is not a number")
        return
    low, high = _RANGES.get(schema.get("format", ""), (float("-inf"), float("inf")))
    if schema["type"] == "integer" and (not isinstance(value, int) or not low <= value <= high):
        place.wrong(at, f"{value!r} is not a {schema.get('format')}")


def _check_text(place: _Place, at: str, value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and "enum" in schema:
        # `$alt=json;enum-encoding=int` has enums as numbers, both ways.
        if not 0 <= value < len(schema["enum"]):
            place.wrong(at, f"{value} numbers none of {schema['enum']}")
        return
    if isinstance(value, int) and place.is_request and place.operation.verb in _PLAIN_NUMBERS:
        return
    if not isinstance(value, str):
        place.wrong(at, f"{value!r:.60} is not a string")
        return
    _check_string(place, at, value, schema)


def _check_string(place: _Place, at: str, value: str, schema: Mapping[str, Any]) -> None:
    if "enum" in schema and value not in schema["enum"]:
        place.wrong(at, f"{value!r} is not among {schema['enum']}")
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        place.wrong(at, f"{value!r} does not match {schema['pattern']}")
    problem = _format_problem(value, schema.get("format", ""))
    if problem:
        place.wrong(at, f"{value!r:.60} {problem}")


def _format_problem(value: str, form: str) -> str:
    if form in _RANGES:
        low, high = _RANGES[form]
        fits = re.fullmatch(r"-?\d+", value) and low <= int(value) <= high
        return "" if fits else f"is not a {form} as text"
    if form in {"date-time", "google-datetime"}:
        return "" if _is_time(value) else "is not a time"
    if form == "google-duration":
        return "" if _DURATION.fullmatch(value) else "is not a duration"
    if form == "byte":
        return "" if _is_base64(value) else "is not base64"
    return ""


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/") + "==", validate=False)
    except ValueError:
        return False
    return bool(re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", value))


@cache
def description() -> Description:
    """Return the judge of all the documents that the simulator answers for."""
    return Description(json.loads((FOLDER / f"{name}.json").read_text()) for name in DOCUMENTS)


def judge_exchanges(lines: Iterable[str]) -> list[str]:
    """Judge what the simulator wrote with `--exchanges`, one JSON object per line."""
    judge = description()
    return [problem for line in lines for problem in judge.check(json.loads(line))]
