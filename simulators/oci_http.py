"""A request to a registry, its answer, and the registry's way of refusing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl


class Body(Protocol):
    """Where a request's body is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; empty at the end.

        Raises: ConnectionError when the client leaves, or a fault cuts it.
        """


class Refusal(Exception):  # noqa: N818 - a registry says no, which is an answer
    """An error as the specification writes it.

    https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
    """

    def __init__(self, status: int, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.errors = [{"code": code, "message": message, "detail": detail}]
        self.headers: dict[str, str] = {}

    def answer(self) -> Answer:
        """Return it as it is sent."""
        body = json.dumps({"errors": self.errors}).encode() + b"\n"
        return Answer(status=self.status, data=body, headers=self.headers)


@dataclass(kw_only=True)
class Request:
    """One request; its body is read by whoever wants it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: Body
    length: int | None  # None: sent in chunks of HTTP

    @property
    def params(self) -> dict[str, str]:
        """Return the query; the last value wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def lists(self) -> list[tuple[str, str]]:
        """Return the query with every value of a name."""
        return parse_qsl(self.query, keep_blank_values=True)

    def whole(self, most: int) -> bytes:
        """Return the body, one byte more than `most` when it is larger."""
        parts: list[bytes] = []
        left = most + 1
        while left and (piece := self.body.read(left)):
            parts.append(piece)
            left -= len(piece)
        return b"".join(parts)


@dataclass(kw_only=True)
class Answer:
    """What is sent back: bytes, or a part of a file."""

    status: int = 200
    data: bytes = b""
    file: Path | None = None
    offset: int = 0
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Return how many bytes the body has."""
        return self.file.stat().st_size - self.offset if self.file else len(self.data)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON document."""
    data = json.dumps(value).encode() + b"\n"
    return Answer(status=status, data=data, headers=dict(headers or {}))
