"""Read a request's body, or write an answer, at the plain ASGI doors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, TypeVar

from cynthus.codec import decode
from cynthus.errors import UserError

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Door = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

BODY_LIMIT_S = 15.0  # slow clients are to be cut off within 20 s; a message takes one
CONTENT_TOO_LARGE = 413
JSON_TYPE = "application/json"
_DRAIN_BYTES = 32 << 20  # more than any message may have; who sends on is cut off
_DRAIN_S = 5.0

_CODES = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    410: "gone",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    421: "misdirected",
    422: "invalid",
    429: "too_many",
    431: "headers_too_large",
    500: "server_fault",
    503: "unavailable",
    507: "storage_full",
}


#: The extension by which the server says whether some of a request's body is still on its way.
ARRIVING = "cynthus.arriving"

# Built once: `json.loads` builds a decoder for each message that has such a wish.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


class HttpRefusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """The answer to a request that is not granted; `message` is fit for a user."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that belong to the answer."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status in {408, CONTENT_TOO_LARGE}:
            headers["Connection"] = "close"  # the rest of the body is not wanted
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == 401 else headers  # noqa: PLR2004 - RFC 9110, 11.6.1


class Disconnected(Exception):  # noqa: N818 - nobody is left to be told
    """The client has gone."""


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return the one shape in which every door refuses."""
    return {"error": {"code": _CODES.get(status, "error"), "message": message}}


def is_whole(scope: Scope) -> bool:
    """Say whether all of a request is here: reading it needs no limit, which costs a timer."""
    arriving: Callable[[], bool] | None = scope.get("extensions", {}).get(ARRIVING)
    return arriving is not None and not arriving()


async def read_body(receive: Receive, limit_bytes: int, *, whole: bool = False) -> bytes:
    """Return the whole body, counted while it comes. `whole`: it is known to be here.

    Raises: HttpRefusal (413, 408), Disconnected.
    """
    if whole:
        return await _collected(receive, limit_bytes)
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            return await _collected(receive, limit_bytes)
    except TimeoutError:
        raise HttpRefusal(
            408, f"body: should arrive within {BODY_LIMIT_S:.0f} s. Send it again."
        ) from None


async def _collected(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def drain(receive: Receive) -> None:
    """Throw some of a refused body away, so that its sender reads the answer, not a reset."""
    size, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while more and size < _DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)


def too_large(limit_bytes: int) -> HttpRefusal:
    """Return the refusal of a body that is too large."""
    return HttpRefusal(
        CONTENT_TOO_LARGE, f"body: should have at most {limit_bytes} bytes. Send less at a time."
    )


def check_length(scope: Scope, limit_bytes: int) -> None:
    """Refuse by the announced length, before a byte of the body is read."""
    length = header(scope, b"content-length")
    if length and length.isdigit() and int(length) > limit_bytes:
        raise too_large(limit_bytes)


def check_type(scope: Scope, media_type: str) -> None:
    """Refuse a body that is announced as something else."""
    found = header(scope, b"content-type").partition(";")[0].strip().lower()
    if found != media_type:
        raise HttpRefusal(415, f"Content-Type: should be {media_type}. Send it so.")


def header(scope: Scope, name: bytes) -> str:
    """Return a header's value, or empty text; the first one counts."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def bearer(scope: Scope) -> str:
    """Return the bearer token, or empty text."""
    scheme, _, token = header(scope, b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def parse_json(body: bytes) -> Any:
    """Return the body as a JSON value; NaN and infinities, which are not JSON, become null.

    Raises: HttpRefusal (400).
    """
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        raise HttpRefusal(400, "body: should be JSON, found something else. Send JSON.") from None


def read_words(kind: type[T], content: bytes) -> T:
    """Read what an agent says. Raises: HttpRefusal (400, 422)."""
    try:
        return decode(kind, parse_json(content))
    except UserError as error:
        raise HttpRefusal(422, str(error)) from error


async def answer_json(send: Send, status: int, value: Any, headers: Headers = ()) -> None:
    """Send a JSON value."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    await answer(send, status, body, [(b"content-type", b"application/json"), *headers])


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                *headers,
                (b"content-length", str(len(body)).encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refusal: HttpRefusal) -> None:
    """Send a refusal."""
    headers = [(k.lower().encode(), v.encode()) for k, v in refusal.headers.items()]
    await answer_json(send, refusal.status, error_body(refusal.status, refusal.message), headers)
