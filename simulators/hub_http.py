"""A request to a simulated hub, its answer, and the ways of saying no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote

from simulators.hub_content import Content

Host = Literal["api", "storage"]


class Refusal(Exception):  # noqa: N818 - a hub says no, which is an answer
    """An answer that ends the handling of a request."""

    def __init__(
        self,
        status: int,
        value: Any,
        headers: Mapping[str, str] | None = None,
        media_type: str = "",
    ) -> None:
        super().__init__(f"{status}: {value}")
        self.answer = json_answer(value, status, headers)
        if media_type:
            self.answer.data, self.answer.media_type = str(value).encode(), media_type


@dataclass(kw_only=True)
class Request:
    """One request with its whole body: what is sent to a hub here is small."""

    host: Host  # which of the simulator's two listeners took it
    method: str
    path: str  # as it was sent, percent signs included
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def parts(self) -> list[str]:
        """Return the path's parts, each decoded: a revision may hold an encoded slash."""
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def params(self) -> dict[str, str]:
        """Return the query; the last value of a name wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def lists(self) -> dict[str, list[str]]:
        """Return the query with every value of a name."""
        return parse_qs(self.query, keep_blank_values=True)

    def json(self) -> dict[str, Any]:
        """Return the body, a JSON object.

        Raises: Refusal (400).
        """
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            raise Refusal(400, {"code": 400, "message": "the body is not JSON"}) from None
        if not isinstance(found, dict):
            raise Refusal(400, {"code": 400, "message": "the body is not a JSON object"})
        return found


@dataclass(kw_only=True)
class Answer:
    """What is sent back: bytes, or a stretch of a content."""

    status: int = 200
    data: bytes = b""
    content: Content | None = None
    start: int = 0
    stop: int | None = None  # of the content; None: its end
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    unknown: bool = False  # nobody here knows such an address; the list of requests shows it

    @property
    def length(self) -> int:
        """Return how many bytes the body has."""
        if self.content is None:
            return len(self.data)
        return (self.content.size if self.stop is None else self.stop) - self.start


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON document."""
    data = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, data=data, headers=dict(headers or {}))


def unknown(value: Any) -> Refusal:
    """Return the refusal of a request that the simulator does not know."""
    refusal = Refusal(404, value)
    refusal.answer.unknown = True
    return refusal


def plain_answer(text: str, status: int, headers: Mapping[str, str]) -> Answer:
    """Return a text, as redirects carry one."""
    media_type = "text/plain; charset=utf-8"
    return Answer(status=status, data=text.encode(), media_type=media_type, headers=dict(headers))
