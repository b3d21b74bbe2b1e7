"""Take in or hand out blobs under signed addresses: plain ASGI, streamed, memory stays flat."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from datetime import timedelta
from typing import BinaryIO, TypeVar
from urllib.parse import quote

from cynthus.errors import Refused, Transient
from webhook_server.auth.blob_urls import GetTerms, PutTerms, read_get, read_put
from webhook_server.routes.answers import (
    Disconnected,
    Door,
    HttpRefusal,
    Receive,
    Scope,
    Send,
    answer,
    header,
)
from webhook_server.routes.parts import Parts
from webhook_server.stores.blob_protocol import Announced, BlobMismatch, Receipt, is_key

PREFIX = "/blobs/"
T = TypeVar("T")
_BLOCK_BYTES = 1 << 20  # one trip to a worker thread a block
# The longest silence of either side; a transfer may last hours as long as it moves.
_STALL_LIMIT_S = 15.0
# To begin: a download that has begun may take longer.
_REDIRECT_LIFE = timedelta(minutes=15)
_RANGE = re.compile(r"\Abytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)


def blob_door(parts: Parts) -> Door:
    """Return the door /blobs/{key}?terms&signature=…"""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        key = scope["path"].removeprefix(PREFIX)
        query = scope["query_string"].decode("latin-1")
        if scope["method"] == "PUT":
            terms = read_put(parts.server_key, key, query, parts.now()) if is_key(key) else None
            await _put(parts, key, _granted(terms), _Request(scope, receive), send)
        elif scope["method"] in {"GET", "HEAD"}:
            wanted = read_get(parts.server_key, key, query, parts.now()) if is_key(key) else None
            if wanted is None:
                raise HttpRefusal(403, _NOT_GOOD)
            await _get(parts, key, wanted, scope, send)
        else:
            raise HttpRefusal(405, "method: should be GET or PUT. Use the one that was signed.")

    return door


_NOT_GOOD = "address: should be signed for this use and still good. Ask for a new one."


def _granted(terms: PutTerms | None) -> PutTerms:
    if terms is None:
        raise HttpRefusal(403, _NOT_GOOD)
    return terms


class _Request:
    """The body of a PUT, in blocks."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self._receive = scope, receive
        self._more = True

    async def block(self) -> bytes:
        """Return about a mebibyte, less at the end, nothing after it."""
        parts: list[bytes] = []
        size = 0
        while self._more and size < _BLOCK_BYTES:
            chunk = await self._chunk()
            size += len(chunk)
            parts.append(chunk)
        return b"".join(parts)

    async def _chunk(self) -> bytes:
        try:
            async with asyncio.timeout(_STALL_LIMIT_S):
                message = await self._receive()
        except TimeoutError:
            raise HttpRefusal(408, "body: has stopped coming. Send it again.") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._more = message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


async def _put(parts: Parts, key: str, terms: PutTerms, request: _Request, send: Send) -> None:
    length = header(request.scope, b"content-length")
    if not length.isdigit():
        raise HttpRefusal(411, "Content-Length: should be given. Send the file's size.")
    if int(length) != terms.size_bytes:
        raise HttpRefusal(422, f"Content-Length: should be {terms.size_bytes}. Ask anew.")
    try:
        blob = Announced(size_bytes=terms.size_bytes, sha256=terms.sha256, over=terms.over)
        receipt = await asyncio.to_thread(parts.blobs.receive, key, blob)
        await _fill(receipt, request)
    except BlobMismatch as error:
        raise HttpRefusal(422, str(error)) from error
    except (Refused, Transient) as error:
        raise HttpRefusal(503, str(error), retry_after_s=10) from error
    except OSError as error:
        raise _disk_refusal(error) from error
    parts.counters.count("blob_bytes_received_total", terms.size_bytes)
    await answer(send, 201, b"", [])


async def _fill(receipt: Receipt, request: _Request) -> None:
    try:
        while block := await request.block():
            await asyncio.to_thread(receipt.write, block)
        await asyncio.to_thread(receipt.finish)
    finally:
        await asyncio.to_thread(receipt.abort)


def _disk_refusal(error: OSError) -> HttpRefusal:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return HttpRefusal(507, "storage: is full. Tell the operator.", retry_after_s=60)
    return HttpRefusal(503, "storage: does not answer. Try again.", retry_after_s=10)


async def _get(parts: Parts, key: str, terms: GetTerms, scope: Scope, send: Send) -> None:
    size = await _asked(parts.blobs.size, key)
    if size is None:
        raise HttpRefusal(404, "blob: is not here. It may have been removed.")
    disposition = _disposition(terms.file_name)
    if scope["method"] == "GET":
        elsewhere = await _asked(parts.blobs.direct_url, key, disposition, _REDIRECT_LIFE)
        if elsewhere is not None:
            # Signed now, for this one request: a page of 900 outputs signs nothing.
            await answer(send, 302, b"", [(b"location", elsewhere.encode())])
            return
    first, last, status = _range(header(scope, b"range"), size)
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", disposition.encode()),
        (b"content-length", str(last - first + 1).encode()),
        (b"accept-ranges", b"bytes"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; sandbox"),
        (b"cache-control", b"private, no-store"),
    ]
    if status == 206:  # noqa: PLR2004 - Partial Content
        headers.append((b"content-range", f"bytes {first}-{last}/{size}".encode()))
    blob = await _asked(parts.blobs.open, key) if scope["method"] == "GET" else None
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if blob is None:
        await send({"type": "http.response.body", "body": b""})
        return
    await _send_blob(blob, first, last - first + 1, scope, send)


async def _asked(ask: Callable[..., T], *terms: object) -> T:
    try:
        return await asyncio.to_thread(ask, *terms)
    except (Refused, Transient) as error:
        raise HttpRefusal(503, str(error), retry_after_s=10) from error


def _range(text: str, size: int) -> tuple[int, int, int]:
    """Return first byte, last byte, status; several ranges and nonsense mean the whole blob."""
    found = _RANGE.match(text)
    if found is None or not (found[1] or found[2]) or size == 0:
        return 0, size - 1, 200
    if not found[1]:  # the last so many bytes
        return max(size - int(found[2]), 0), size - 1, 206
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if first > last:
        raise HttpRefusal(416, f"Range: should lie within {size} bytes. Ask for less.")
    return first, last, 206


def _disposition(name: str) -> str:
    # Always a download: what users made must not run in the dashboard's origin. RFC 6266, 5987.
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100] or "output"
    spelled = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{spelled}"


async def _send_blob(blob: BinaryIO, first: int, left: int, scope: Scope, send: Send) -> None:
    with blob:
        await asyncio.to_thread(blob.seek, first)
        more = True
        while more:
            block = await _block(blob, left)
            left -= len(block)
            more = left > 0
            message = {"type": "http.response.body", "body": block, "more_body": more}
            await send_or_hang_up(scope, send, message)


async def _block(blob: BinaryIO, left: int) -> bytes:
    try:
        return await asyncio.to_thread(blob.read, min(_BLOCK_BYTES, left))
    except (Refused, Transient) as error:
        raise Disconnected from error  # the length was announced: a cut is the only refusal left


async def send_or_hang_up(
    scope: Scope, send: Send, message: dict[str, object], *, limit_s: float = _STALL_LIMIT_S
) -> None:
    """Send, but let go of a client that takes nothing for so long. Raises: Disconnected."""
    try:
        async with asyncio.timeout(limit_s):
            await send(message)
    except TimeoutError:
        hang_up = scope.get("extensions", {}).get("cynthus.hang_up")
        if hang_up is not None:
            hang_up()
        raise Disconnected from None
