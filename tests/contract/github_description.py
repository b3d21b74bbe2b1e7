"""GitHub's own description of its REST API and webhooks, as a judge of exchanges.

The description comes from npm (`@octokit/openapi`, pinned in package.json). It is OpenAPI 3.0,
which is not quite JSON Schema; `_translated` makes up the difference.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

FOLDER = Path(__file__).parent
OPENAPI = FOLDER / "node_modules/@octokit/openapi/generated/api.github.com.json"
EXAMPLES = FOLDER / "node_modules/@octokit/webhooks-examples/api.github.com/index.json"
_NAME = "urn:github"

# Parameters that hold slashes although a path template cannot say so.
_DEEP = {"path", "ref", "tag", "basehead", "branch", "tree_sha"}
# Statuses that any operation may answer; the description names them for some operations only.
_ANYWHERE = {
    301: "the repository was renamed",
    307: "the repository was renamed, and the method must be kept",
    304: "the condition of the request held",
    400: "the JSON could not be parsed, or the API version is unknown",
    401: "the credentials are bad",
    403: "the caller may not, or a limit was reached",
    404: "hidden or absent",
    422: "the body does not fit",
    429: "a limit was reached",
}
# Where GitHub is known to differ from its own description: place in the answer → why.
KNOWN_DEVIATIONS = (
    (
        r"(/head|/base)/(repo|user|label)$",
        "null once a fork is deleted, seen in recorded traffic, although described as an object",
    ),
    (
        r"/pull_request/(head|base)/(repo|user|label)$",
        "the same in webhooks",
    ),
    (
        r"^/\d+/account$",
        "the list of installations is described as a user and an enterprise at once; it is one",
    ),
    (r"/state$", "an asset may be in the state `starter` after a failed upload"),
    (r"/conclusion$", "`stale` is set by GitHub itself and described for suites only"),
)


# What real GitHub answers although its description leaves it out: method, path → why.
UNDESCRIBED = (
    ("GET", r"/repos/[^/]+/[^/]+/statuses/[^/]+", "the old name of .../commits/{ref}/statuses"),
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation and the path template it was found by."""

    template: str
    method: str
    body: dict[str, Any]


class Description:
    """Judges exchanges and webhooks; an empty list means nothing is wrong."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        resource = Resource(contents=_translated(document), specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_NAME, resource)
        self._templates = [(path, *_patterns(path)) for path in document["paths"]]
        self._validators: dict[str, Draft202012Validator] = {}

    def operation(self, method: str, path: str) -> Operation | None:
        """Return the operation a request is for, the most literal template first."""
        found = [t for t, plain, _ in self._templates if plain.fullmatch(path)]
        found += [t for t, _, deep in self._templates if deep.fullmatch(path)]
        for template in sorted(dict.fromkeys(found), key=lambda t: (t.count("{"), -len(t))):
            body = self.document["paths"][template].get(method.lower())
            if body is not None:
                return Operation(template=template, method=method.lower(), body=body)
        return None

    def check_exchange(
        self, method: str, path: str, request_json: Any, status: int, response_json: Any
    ) -> list[str]:
        """Say what is wrong with one request and its answer; `path` may carry a query."""
        place, _, query = path.partition("?")
        operation = self.operation(method, place)
        if operation is None and any(
            (method, True) == (known, bool(re.fullmatch(pattern, place)))
            for known, pattern, _ in UNDESCRIBED
        ):
            return []
        if operation is None:
            return [f"{method} {place}: GitHub describes no such operation"]
        title = f"{method} {place} → {status}"
        problems = self._answer(operation, status, response_json)
        if status < 400:
            problems += self._request(operation, query, request_json)
        return [f"{title}: {problem}" for problem in problems]

    def _request(self, operation: Operation, query: str, request_json: Any) -> list[str]:
        described = [self._resolve(p) for p in operation.body.get("parameters", [])]
        known = {p["name"] for p in described if p["in"] == "query"}
        asked = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
        problems = [f"the query has no {name!r}" for name in sorted(asked - known)]
        body = operation.body.get("requestBody")
        if body is None or "application/json" not in body["content"]:
            return problems
        if request_json is None:
            return problems + (["the body is missing"] if body.get("required") else [])
        pointer = self._pointer(operation, "requestBody/content/application~1json/schema")
        return problems + [f"request {e}" for e in self._errors(pointer, request_json)]

    def _answer(self, operation: Operation, status: int, response_json: Any) -> list[str]:
        described = operation.body["responses"].get(str(status))
        if described is None:
            if status in _ANYWHERE or status >= 500:
                return []
            return [f"the status is not among {sorted(operation.body['responses'])}"]
        content = self._resolve(described).get("content", {})
        if "application/json" not in content:
            if status >= 400 or response_json in (None, {}):
                return []  # errors carry a message although some are described without one
            return ["an answer without a body was described"]
        if response_json is None:
            return []
        pointer = self._pointer(operation, f"responses/{status}/content/application~1json/schema")
        if "$ref" in described:
            pointer = f"{described['$ref']}/content/application~1json/schema"
        return [f"answer {error}" for error in self._errors(pointer, response_json)]

    def check_webhook(self, event: str, payload: Any) -> list[str]:
        """Say what is wrong with a webhook's payload."""
        hooks = self.document["x-webhooks"]
        action = payload.get("action") if isinstance(payload, dict) else None
        base = event.replace("_", "-")
        names = [f"{base}-{str(action).replace('_', '-')}" if action else base, base]
        name = next((n for n in names if n in hooks), None)
        if name is None and base == "repository-dispatch":
            name = "repository-dispatch-sample.collected"  # the action is the caller's own word
        if name is None:
            return [f"{event}.{action}: GitHub describes no such webhook"]
        pointer = f"#/x-webhooks/{name}/post/requestBody/content/application~1json/schema"
        return [f"{event}.{action}: {error}" for error in self._errors(pointer, payload)]

    def _resolve(self, item: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in item:
            found: Any = self.document
            for part in item["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            item = found
        return item

    def _pointer(self, operation: Operation, rest: str) -> str:
        path = operation.template.replace("~", "~0").replace("/", "~1")
        return f"#/paths/{path}/{operation.method}/{rest}"

    def _errors(self, pointer: str, value: Any) -> list[str]:
        if pointer not in self._validators:
            self._validators[pointer] = Draft202012Validator(
                {"$ref": f"{_NAME}{_quoted(pointer)}"},
                registry=self._registry,
                format_checker=_formats(),
            )
        errors = self._validators[pointer].iter_errors(value)
        told = (_deepest(error) for error in errors)
        return [f"at {place or '/'}: {message}" for place, message in told if not _known(place)]


def _quoted(pointer: str) -> str:
    return pointer.replace("{", "%7B").replace("}", "%7D")


def _known(place: str) -> bool:
    return any(re.search(pattern, place) for pattern, _ in KNOWN_DEVIATIONS)


def _deepest(error: Any) -> tuple[str, str]:
    # Of the branches of an `anyOf` the one that got furthest tells most.
    while error.context:
        error = max(error.context, key=lambda e: len(list(e.absolute_path)))
    return "".join(f"/{part}" for part in error.absolute_path), error.message[:200]


def _patterns(template: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    plain = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
    deep = re.sub(
        r"\\\{(\w+)\\\}",
        lambda found: ".*" if found[1] in _DEEP else "[^/]+",
        re.escape(template),
    )
    return re.compile(plain), re.compile(deep)


def _translated(value: Any) -> Any:
    """Turn OpenAPI 3.0 schemas into JSON Schema, everywhere in a document."""
    if isinstance(value, list):
        return [_translated(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {
        key: _named(item) if key in {"properties", "patternProperties"} else _translated(item)
        for key, item in value.items()
        if key not in {"example", "examples"}
    }
    if isinstance(value.get("oneOf"), list):
        # GitHub's alternatives overlap, so that "exactly one" would refuse GitHub's own examples.
        value["anyOf"] = value.pop("oneOf") + value.get("anyOf", [])
    return _nullable(value) if value.get("nullable") is True else value


def _named(properties: Any) -> Any:
    # The keys here are names of members, `nullable` or `example` among them perhaps.
    if not isinstance(properties, dict):
        return properties
    return {name: _translated(schema) for name, schema in properties.items()}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    bare = {key: item for key, item in schema.items() if key != "nullable"}
    return {"anyOf": [bare, {"type": "null"}]}


@cache
def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())

    @checker.checks("date-time", raises=ValueError)
    def is_date_time(value: object) -> bool:
        return not isinstance(value, str) or bool(datetime.fromisoformat(value))

    return checker


@cache
def description() -> Description:
    """Return the judge, fetching GitHub's description through npm when it is not here yet."""
    fetch()
    return Description(json.loads(OPENAPI.read_text()))


def fetch() -> None:
    """Run `npm ci` here once; it begins by deleting, so whoever else wants it meanwhile waits."""
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not (OPENAPI.exists() and EXAMPLES.exists()):
            _install()
    finally:
        os.close(folder)


def _install() -> None:
    if shutil.which("npm") is None:
        raise RuntimeError(
            f"{FOLDER}: GitHub's description of its API comes from npm, and npm is not on PATH. "
            "Install Node.js (on Debian: apt-get install npm)."
        )
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{FOLDER}: `npm ci` failed:\n{done.stderr}")


def judge_exchanges(lines: Iterable[str]) -> list[str]:
    """Judge what the simulator wrote with `--exchanges`, one JSON object per line."""
    judge = description()
    problems: list[str] = []
    for line in lines:
        seen = json.loads(line)
        path = f"{seen['path']}?{seen['query']}" if seen["query"] else seen["path"]
        problems += judge.check_exchange(
            seen["method"], path, seen["request"], seen["status"], seen["response"]
        )
    return problems


def judge_deliveries(deliveries: Iterable[dict[str, Any]]) -> list[str]:
    """Judge what `GET /_sim/deliveries` lists."""
    judge = description()
    return [
        problem
        for delivery in deliveries
        for problem in judge.check_webhook(delivery["event"], json.loads(delivery["body"]))
    ]
