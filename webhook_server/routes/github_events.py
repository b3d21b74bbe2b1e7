"""Take GitHub's deliveries: verify, store, and only then answer 202.

Plain ASGI in front of FastAPI, since nothing here needs more and GitHub waits for the answer.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from webhook_server.auth.signature import verified, well_formed
from webhook_server.routes.answers import is_whole
from webhook_server.routes.landing import Landing
from webhook_server.rush import Rush

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Store = Callable[[str, str, bytes], Future[bool]]

PATH = "/webhooks/github"
# https://docs.github.com/webhooks/webhook-events-and-payloads#payload-cap
MAX_BYTES = 25 * 1024 * 1024
# GitHub gives up after 10 s: https://docs.github.com/webhooks/using-webhooks/best-practices-for-using-webhooks
BODY_LIMIT_S = 8.0
STORE_LIMIT_S = 8.0
# Bodies are read before anybody is known: all of them together may take this much memory.
MAX_HELD_BYTES = 8 * MAX_BYTES
_EVENT = re.compile(rb"[a-z][a-z0-9_]{0,62}")
_GUID = re.compile(rb"[0-9A-Za-z-]{8,64}")  # a UUID today; GitHub promises no more than "GUID"
_JSON_TYPE = re.compile(rb"application/json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)

log = getLogger(__name__)


class _Refusal(Exception):  # noqa: N818 - reads as what it is
    """Answer with this status and sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class _HungUp(Exception):  # noqa: N818 - as above
    """Nobody waits for an answer any more."""


@dataclass(frozen=True, kw_only=True)
class _Headers:
    event: str
    guid: str
    signature: bytes
    length: int | None


class GithubEvents:
    """The ASGI application behind `POST /webhooks/github`.

    `store` commits a delivery durably and says whether it is new; `ring` wakes the inbox; `see`
    notes that a delivery came which is not kept, without waiting: it proves that GitHub reaches us.
    """

    def __init__(
        self,
        *,
        secrets: tuple[bytes, ...],
        store: Store,
        ring: Callable[[], None],
        see: Callable[[], object] = lambda: None,
        body_limit_s: float = BODY_LIMIT_S,
    ) -> None:
        if not secrets:
            raise ValueError("deliveries cannot be verified without a secret")
        self._secrets, self._store, self._ring, self._see = secrets, store, ring, see
        self._body_limit_s = body_limit_s
        self._landing = Landing(STORE_LIMIT_S)
        self.rush = Rush()  # who stands here
        self._held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; whatever arrives, only a failing store makes it a 5xx."""
        try:
            with self.rush:
                status, text = await self._take(scope, receive)
        except _HungUp:
            return
        except _Refusal as refusal:
            status, text = refusal.status, refusal.text
        await _answer(send, status, text)

    async def _take(self, scope: Message, receive: Receive) -> tuple[int, str]:
        if scope["method"] != "POST":
            raise _Refusal(405, "method: should be POST.")
        headers = _read_headers(scope["headers"])
        body = await self._body(receive, headers, whole=is_whole(scope))
        if not verified(self._secrets, body, headers.signature):
            raise _Refusal(401, "X-Hub-Signature-256: does not sign this body.")
        if not _looks_like_an_object(body):
            raise _Refusal(400, "body: should be a JSON object in UTF-8.")
        if headers.event == "ping":  # says "the hook works": there is nothing to keep
            self._see()
            return 202, "pong"
        return await self._keep(headers, body)

    async def _body(self, receive: Receive, headers: _Headers, *, whole: bool) -> bytes:
        if whole:
            body = await self._collected(receive)
        else:
            try:
                async with asyncio.timeout(self._body_limit_s):
                    body = await self._collected(receive)
            except TimeoutError:
                late = f"body: should arrive within {self._body_limit_s:.0f} s."
                raise _Refusal(408, late) from None
        if headers.length is not None and headers.length != len(body):
            raise _Refusal(400, "Content-Length: is not the body's length.")
        return body

    async def _collected(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                part, more = await _next_part(receive)
                size += len(part)
                self._held_bytes += len(part)
                parts.append(part)
                self._check_size(size)
        finally:
            self._held_bytes -= size
        return b"".join(parts)

    def _check_size(self, size: int) -> None:
        if size > MAX_BYTES:
            raise _Refusal(413, "body: should be at most 25 MB.")
        if self._held_bytes > MAX_HELD_BYTES:
            raise _Refusal(503, "the server reads too many large deliveries at once. Try again.")

    async def _keep(self, headers: _Headers, body: bytes) -> tuple[int, str]:
        try:
            stored = self._store(headers.guid, headers.event, body)
            # A write that is late is still done, and known when it comes again.
            new = await self._landing.wait_for(stored)
        except Exception:
            # GitHub records the failure, and the sweep asks for this delivery again.
            log.exception("delivery not stored guid=%s kind=%s", headers.guid, headers.event)
            raise _Refusal(503, "the delivery could not be stored. Deliver it again.") from None
        if not new:
            self._see()
            return 202, "known already"
        self._ring()
        return 202, "accepted"


async def _next_part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _HungUp
    return message.get("body", b""), message.get("more_body", False)


def _read_headers(pairs: Sequence[tuple[bytes, bytes]]) -> _Headers:
    found = dict(pairs)  # the server writes their names in small letters, as ASGI asks
    if len(found) < len(pairs):  # some name is there twice, which is as good as a wrong value
        counts = Counter(name for name, _ in pairs)
        found |= {name: b"?" for name, count in counts.items() if count > 1}
    if _JSON_TYPE.fullmatch(found.get(b"content-type", b"")) is None:
        raise _Refusal(415, "Content-Type: should be application/json; set it on the webhook.")
    if found.get(b"content-encoding", b"") not in (b"", b"identity"):
        raise _Refusal(415, "Content-Encoding: should be absent.")
    signature = found.get(b"x-hub-signature-256", b"")
    if not well_formed(signature):
        raise _Refusal(401, "X-Hub-Signature-256: should be one signature.")
    length = _length(found)
    event, guid = found.get(b"x-github-event", b""), found.get(b"x-github-delivery", b"")
    if _EVENT.fullmatch(event) is None or _GUID.fullmatch(guid) is None:
        raise _Refusal(400, "X-GitHub-Event, X-GitHub-Delivery: should be one each, as by GitHub.")
    return _Headers(event=event.decode(), guid=guid.decode(), signature=signature, length=length)


def _length(found: dict[bytes, bytes]) -> int | None:
    text = found.get(b"content-length")
    if text is None:
        return None
    # Both lengths at once is how requests are smuggled: RFC 9112, section 6.1.
    if not text.isdigit() or len(text) > 18 or b"transfer-encoding" in found:  # noqa: PLR2004
        raise _Refusal(400, "Content-Length: should be one number.")
    if int(text) > MAX_BYTES:
        raise _Refusal(413, "body: should be at most 25 MB.")
    return int(text)


def _looks_like_an_object(body: bytes) -> bool:
    # The worker parses; here only what can never be parsed is told to whoever configures it.
    stripped = body.strip(b" \t\r\n")
    if not (stripped.startswith(b"{") and stripped.endswith(b"}")):
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


async def _answer(send: Send, status: int, text: str) -> None:
    start, body = _words(status, text)
    await send({**start})  # on its way headers may be added to it
    await send(body)


@functools.cache  # few words are ever said here, each a thousand times a second
def _words(status: int, text: str) -> tuple[Message, Message]:
    good = status == 202  # noqa: PLR2004
    content = {"status": text} if good else {"error": {"code": status, "message": text}}
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if not good:
        headers.append((b"connection", b"close"))  # the rest of a refused body is not read
    if status == 405:  # noqa: PLR2004
        headers.append((b"allow", b"POST"))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}
