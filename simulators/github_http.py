"""A REST request, its answer, and GitHub's ways of refusing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from simulators.github_git import Git
from simulators.github_state import Doc, Store
from simulators.github_world import World

DOCS = "https://docs.github.com/rest"


class ApiError(Exception):
    """GitHub says no, in GitHub's words."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        docs: str = DOCS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: Doc = {"message": message}
        if errors is not None:
            self.body["errors"] = errors
        self.body |= {"documentation_url": docs, "status": str(status)}


def not_found(docs: str = DOCS) -> ApiError:
    """Return the answer for what is absent and for what must stay hidden."""
    return ApiError(404, "Not Found", docs=docs)


def invalid(resource: str, field_: str, code: str, message: str | None = None) -> ApiError:
    """Return a validation failure of one field."""
    error: Doc = {"resource": resource, "field": field_, "code": code}
    if message is not None:
        error = {"resource": resource, "code": "custom", "field": field_, "message": message}
    return ApiError(422, "Validation Failed", errors=[error])


def unprocessable(message: str) -> ApiError:
    """Return GitHub's answer for a body that does not fit the endpoint's schema."""
    return ApiError(422, f"Invalid request.\n\n{message}")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: an app (JWT), an installation, a workflow job, a user, or nobody."""

    kind: str
    user: Doc | None = None
    app: Doc | None = None
    installation: Doc | None = None
    repo_ids: frozenset[int] | None = None  # None: every repository of the installation
    permissions: Mapping[str, str] = field(default_factory=dict)
    token: str = ""

    @property
    def is_integration(self) -> bool:
        """Say whether an app acts, not a person."""
        return self.kind in {"installation", "job"}

    @property
    def limit_key(self) -> str:
        """Return whose hourly budget the request is taken from."""
        match self.kind:
            case "job":
                return f"job:{min(self.repo_ids or [0])}"
            case "installation":
                return f"installation:{(self.installation or {}).get('id')}"
            case "app":
                return f"app:{(self.app or {}).get('id')}"
            case "user":
                return f"user:{(self.user or {}).get('id')}"
            case _:
                return "anonymous"


NOBODY = Caller(kind="anonymous")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What GitHub sends back."""

    status: int = 200
    json: Any = None
    raw: bytes | None = None
    file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json; charset=utf-8"


@dataclass(kw_only=True)
class Call:
    """One REST request on its way through the simulator."""

    world: World
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    body_file: str | None = None
    caller: Caller = NOBODY
    args: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """Return what the simulator remembers."""
        return self.world.store

    @property
    def params(self) -> dict[str, str]:
        """Return the query string, last value wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def url(self) -> str:
        """Return the URL of the request without its query."""
        return f"{self.store.base_url}/api{self.path}"

    def json(self) -> Doc:
        """Return the body as a JSON object, or refuse as GitHub does."""
        if not self.body.strip():
            return {}
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise ApiError(400, "Problems parsing JSON") from None
        if not isinstance(value, dict):
            raise ApiError(400, "Body should be a JSON object")
        return value

    def number(self, name: str) -> int:
        """Return an id from the path."""
        text = self.args[name]
        # A 64-bit id is all that GitHub can hold.
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise not_found()
        return int(text)


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation: where it lives, who may call it, what it costs."""

    method: str
    template: str
    handler: Handler
    notifies: bool = False  # creates content: https://docs.github.com/rest (secondary limits)
    app_only: bool = False  # answered to a JSON Web Token of an app, to nobody else
    upload: bool = False  # the body is a file, not JSON

    def regex(self) -> re.Pattern[str]:
        """Return the pattern; `{path...}` takes any number of segments."""
        pattern = re.sub(r"\\\{(\w+)\\\.\\\.\\\.\\\}", r"(?P<\1>.*)", re.escape(self.template))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        return re.compile(f"^{pattern}$")


def page(call: Call, items: list[Any], *, key: str | None = None, cap: int = 100) -> Answer:
    """Return one page of a list with GitHub's `Link` header."""
    size = min(_whole(call.params.get("per_page"), 30), cap)
    number = _whole(call.params.get("page"), 1)
    last = max(1, -(-len(items) // size))
    part = items[(number - 1) * size : number * size]
    body: Any = part if key is None else {"total_count": len(items), key: part}
    return Answer(json=body, headers=_link(call, number, last))


def _whole(text: str | None, default: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) < 1:
        return default
    return int(text)


def _link(call: Call, number: int, last: int) -> dict[str, str]:
    places: list[tuple[str, int]] = []
    if number > 1:
        places.append(("prev", min(number - 1, last)))
    if number < last:
        places += [("next", number + 1), ("last", last)]
    if number > 1:
        places.append(("first", 1))
    if not places:
        return {}
    return {"Link": ", ".join(f'<{_page_url(call, n)}>; rel="{rel}"' for rel, n in places)}


def _page_url(call: Call, number: int) -> str:
    return f"{call.url}?{urlencode({**call.params, 'page': str(number)})}"


def need_commit(git: Git, name: str) -> str:
    """Return the commit a name stands for, or refuse in GitHub's words."""
    sha = git.resolve(name)
    if sha is None:
        raise ApiError(422, f"No commit found for SHA: {name}")
    return sha
