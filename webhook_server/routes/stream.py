"""Send a run's feed as it grows (server-sent events): plain ASGI, one small task a reader."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from urllib.parse import parse_qs

from cynthus.codec import encode
from cynthus.errors import Transient
from cynthus.wire import EventKind, RunEvent
from webhook_server.bell import Bell
from webhook_server.routes.access import require_reader
from webhook_server.routes.answers import Door, HttpRefusal, Receive, Scope, Send, header
from webhook_server.routes.blobs import send_or_hang_up
from webhook_server.routes.parts import Parts
from webhook_server.runs.model import State

PATH = re.compile(r"\A/api/v1/runs/([a-z][a-z0-9]{0,31})/stream\Z", re.ASCII)
PAGE = 200  # events a read: at 256 KiB of log each, one page stays below what a server can hold
MOST_READERS = 1000  # each holds a file descriptor; the usual limit of a process is 1,024 or more
MOST_READERS_A_RUN = 100
_TICK_S = 0.05  # what a reader may lag: below what a person notices
_COMMENT_S = 15.0  # proxies close what is silent for 30 s or 60 s
_LOOK_S = 2.0  # another replica's news rings no bell here: look this often all the same
_RETRY_MS = 2000


class Readers:
    """Wakes the readers of a run when its bell rings; does nothing while nobody reads."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._ticking: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()

    def join(self, run_id: str) -> asyncio.Event:
        """Return an event that is set whenever there may be news. Raises: HttpRefusal."""
        total = sum(map(len, self._waiting.values()))
        if total >= MOST_READERS or len(self._waiting[run_id]) >= MOST_READERS_A_RUN:
            raise HttpRefusal(503, "stream: has too many readers. Try again.", retry_after_s=10)
        news = asyncio.Event()
        self._waiting[run_id].add(news)
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        return news

    def leave(self, run_id: str, news: asyncio.Event) -> None:
        """Forget a reader."""
        self._waiting[run_id].discard(news)
        if not self._waiting[run_id]:
            del self._waiting[run_id]

    def count(self) -> int:
        """Return how many read."""
        return sum(map(len, self._waiting.values()))

    def stop(self) -> None:
        """Let every reader end, so that the server can."""
        self.stopping.set()
        for waiting in self._waiting.values():
            for news in waiting:
                news.set()

    async def _tick(self) -> None:
        seen: dict[str, int] = {}
        while self._waiting:
            for run_id, waiting in self._waiting.items():
                rings = self._bell.count(f"events/{run_id}")
                if seen.get(run_id) != rings:
                    seen[run_id] = rings
                    for news in waiting:
                        news.set()
            await asyncio.sleep(_TICK_S)


def stream_door(parts: Parts, readers: Readers) -> Door:
    """Return the door GET /api/v1/runs/{id}/stream?after=SEQ."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        found = PATH.match(scope["path"])
        if found is None or scope["method"] != "GET":
            raise HttpRefusal(405, "method: should be GET. Use GET.")
        run_id = found[1]
        await asyncio.to_thread(_admit, parts, scope, run_id)
        news = readers.join(run_id)
        try:
            await _start(send)
            gone = asyncio.create_task(_wait_for_end(receive, news))
            try:
                await _feed(_Reader(parts, readers, scope, send, news), run_id, gone)
            finally:
                gone.cancel()
        finally:
            readers.leave(run_id, news)

    return door


def _admit(parts: Parts, scope: Scope, run_id: str) -> None:
    require_reader(parts, scope, run_id)
    if parts.runs.get(run_id) is None:
        raise HttpRefusal(404, "run: is not known. Check its id.")


async def _start(send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # nginx must not hold events back
                (b"x-content-type-options", b"nosniff"),
            ],
        }
    )


async def _wait_for_end(receive: Receive, news: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()


class _Reader:
    """One connection, with where it stands in the feed."""

    def __init__(
        self, parts: Parts, readers: Readers, scope: Scope, send: Send, news: asyncio.Event
    ) -> None:
        self.parts, self.readers, self.news = parts, readers, news
        self.seq = _start_at(scope)
        self._scope, self._send = scope, send

    async def send(self, text: str, *, more: bool = True) -> None:
        """Send text; a reader that takes nothing for long is let go. Raises: Disconnected."""
        body = text.encode("utf-8", "replace")
        message = {"type": "http.response.body", "body": body, "more_body": more}
        await send_or_hang_up(self._scope, self._send, message)


def _start_at(scope: Scope) -> int:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    text = header(scope, b"last-event-id") or query.get("after", ["0"])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - BIGINT


async def _feed(reader: _Reader, run_id: str, gone: asyncio.Task[None]) -> None:
    await reader.send(f"retry: {_RETRY_MS}\n\n")
    silent_s, over = 0.0, False
    while not gone.done() and not reader.readers.stopping.is_set():
        reader.news.clear()
        page = await _page(reader, run_id)
        for event in page:
            await reader.send(_spell(event))
        if any(_ends(event) for event in page) or (over and not page):
            break
        if page:
            silent_s = 0.0
            reader.seq = page[-1].seq
            continue
        over = await _is_over(reader, run_id)
        if over:
            continue  # it may have ended since the page was read: one more look
        silent_s = await _pause(reader, silent_s)
    await reader.send("", more=False)


async def _page(reader: _Reader, run_id: str) -> list[RunEvent]:
    try:
        return await asyncio.to_thread(reader.parts.events.after, run_id, reader.seq, limit=PAGE)
    except Transient:
        return []  # the next look comes soon; the client need not know


async def _is_over(reader: _Reader, run_id: str) -> bool:
    """Return whether nothing can come any more: asked by those who came after the end."""
    run = await asyncio.to_thread(reader.parts.runs.get, run_id)
    return run is not None and run.state is State.FINISHED


def _ends(event: RunEvent) -> bool:
    return event.kind is EventKind.STATE and event.body.get("state") == State.FINISHED.value


def _spell(event: RunEvent) -> str:
    data = json.dumps(encode(event), separators=(",", ":"), ensure_ascii=False)
    return f"id: {event.seq}\nevent: {event.kind.value}\ndata: {data}\n\n"


async def _pause(reader: _Reader, silent_s: float) -> float:
    try:
        async with asyncio.timeout(_LOOK_S):
            await reader.news.wait()
    except TimeoutError:
        silent_s += _LOOK_S
        if silent_s >= _COMMENT_S - _LOOK_S:
            await reader.send(": still here\n\n")
            return 0.0
    return silent_s
