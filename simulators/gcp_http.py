"""A request to one of Google's APIs, its answer, the routes, and Google's ways of refusing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

LARGEST_JSON = 10 << 20  # no JSON body that these APIs take is larger
_CHUNK = 1 << 18


class GoogleError(Exception):
    """An API says no, in Google's words.

    `reason` (`notFound`) makes the older shape with a list of errors, as Compute Engine, Storage
    and Billing have it; `status` (`NOT_FOUND`) the newer one: https://google.aip.dev/193.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        status: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.body: dict[str, Any] = {"error": {"code": code, "message": message}}
        if reason is not None:
            domain = "usageLimits" if reason in _LIMITS else "global"
            error = {"message": message, "domain": domain, "reason": reason}
            self.body["error"]["errors"] = [error]
        if status is not None:
            self.body["error"]["status"] = status
        if details:
            self.body["error"]["details"] = list(details)

    def answer(self) -> Answer:
        """Return it as it is sent."""
        return Answer(status=self.code, json=self.body)


_LIMITS = {"quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded"}


class Body(Protocol):
    """Where a request's body is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; empty at the end."""


@dataclass(kw_only=True)
class Request:
    """One request; its body is read by whoever wants it."""

    method: str
    path: str  # as it was sent: percent-encoded, without the query
    query: str
    headers: Mapping[str, str]  # names in lower case
    source: Body
    args: dict[str, str] = field(default_factory=dict)  # from the path, decoded
    note: Any = None  # the JSON part of the body, for `--exchanges`

    @property
    def params(self) -> dict[str, str]:
        """Return the query string; the last value wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def chunks(self, size: int = _CHUNK) -> Iterator[bytes]:
        """Yield the body piece by piece, for bodies too large to hold."""
        while chunk := self.source.read(size):
            yield chunk

    def body(self) -> bytes:
        """Return the whole body; refuses what no JSON body ever is."""
        data = self.source.read(LARGEST_JSON + 1)
        if len(data) > LARGEST_JSON:
            raise GoogleError(
                413, "Request payload size exceeds the limit.", reason="uploadTooLarge"
            )
        return data

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object, read once and remembered; none sent: an empty one."""
        if self.note is None:
            data = self.body()
            self.note = self._parsed(data) if data.strip() else {}
        value: dict[str, Any] = self.note
        return value

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise GoogleError(400, "Parse Error", reason="parseError") from None
        if not isinstance(value, dict):
            raise GoogleError(400, "Root element must be a message.", reason="parseError")
        return value


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back: JSON, bytes, a part of a file, or a stream of known or unknown length."""

    status: int = 200
    json: Any = None
    data: bytes | None = None
    file: Path | None = None
    offset: int = 0  # where in the file to begin
    length: int | None = None  # of file or stream; None: to its end, a stream is then chunked
    stream: Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json; charset=UTF-8"
    cut_after: int | None = None  # cut the connection after so many bytes of the body
    lost: bool = False  # cut the connection before any answer


Handler = Callable[[Request], Answer]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one API."""

    method: str
    pattern: str  # `{name}`: one segment; `{name...}`: the rest of the path
    handler: Handler
    verb: str = ""  # Google's name of the method (compute.instances.insert); empty: control
    locked: bool = True  # the world stands still while it is answered; its body is JSON

    @property
    def api(self) -> str:
        """Return the API's name (compute, storage, …); empty: control."""
        return self.verb.partition(".")[0]

    def regex(self) -> re.Pattern[str]:
        """Return what a path is matched with."""
        pattern = re.sub(r"\\\{(\w+)\\\.\\\.\\\.\\\}", r"(?P<\1>.*)", re.escape(self.pattern))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        return re.compile(pattern)


_VERB = re.compile(r":\w+$")  # …/versions/latest:access
_NO_PAGE = (
    b"<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n"
    b"  <p><b>404.</b> <ins>That\xe2\x80\x99s an error.</ins>\n"
    b"  <p>The requested URL was not found on this server.\n"
)


def no_page() -> Answer:
    """Return what Google's front end says of a path that belongs to no API."""
    return Answer(status=404, data=_NO_PAGE, media_type="text/html; charset=UTF-8")


class Router:
    """Finds the route of a request: custom verbs first, greedy patterns last."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_method: dict[str, list[tuple[re.Pattern[str], Route]]] = {}
        for route in sorted(routes, key=_rank):
            self._by_method.setdefault(route.method, []).append((route.regex(), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route and the arguments in the path, or None."""
        for pattern, route in self._by_method.get(method, ()):
            found = pattern.fullmatch(path)
            if found:
                return route, {name: unquote(value) for name, value in found.groupdict().items()}
        return None


def _rank(route: Route) -> tuple[bool, bool]:
    return "...}" in route.pattern, not _VERB.search(route.pattern)
