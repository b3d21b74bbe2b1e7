"""Read bodies with a limit, or answer JSON, at the FastAPI doors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response

from webhook_server.routes.answers import JSON_TYPE, check_length, check_type, read_body


def limited_body(
    limit_bytes: int, *, media_type: str = JSON_TYPE
) -> Callable[[Request], Awaitable[bytes]]:
    """Return a dependency that reads the whole body, counted while it comes."""

    async def read(request: Request) -> bytes:
        check_length(request.scope, limit_bytes)
        check_type(request.scope, media_type)
        return await read_body(request.receive, limit_bytes)

    return read


def json_answer(status: int, value: Any) -> Response:
    """Return a JSON answer that no cache keeps."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Response(
        body.encode("utf-8", "replace"),
        status,
        media_type=JSON_TYPE,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
