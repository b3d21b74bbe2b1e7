"""Put a request through the real ASGI door of webhooks, in virtual time.

The door waits by asyncio, the world by greenlets: what the door awaits is the store, which
answers at once in its own greenlet, or moments of virtual time later.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from typing import Any

from tests.simulation.github import Sent
from webhook_server.routes.github_events import PATH, GithubEvents

_LOOPS: list[asyncio.AbstractEventLoop] = []  # a loop costs a selector: they are used again


def beside_the_loop(store: Callable[..., Future[bool]]) -> Callable[..., Future[bool]]:
    """Return the store for calls from inside a door's loop.

    Storing may give the turn to other greenlets, which may run doors of their own; asyncio
    allows one running loop a thread, so that this one is put aside meanwhile.
    """

    def stored(guid: str, event: str, body: bytes) -> Future[bool]:
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            return store(guid, event, body)
        finally:
            events._set_running_loop(loop)

    return stored


def post(door: GithubEvents, sent: Sent, signature: str) -> int:
    """Return the status that the door answers with."""
    body = sent.body
    headers = {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"x-github-event": sent.event.encode(),
        b"x-github-delivery": sent.guid.encode(),
        b"x-hub-signature-256": signature.encode(),
    }
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": list(headers.items())}
    answered: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.append(int(message["status"]))

    loop = _LOOPS.pop() if _LOOPS else asyncio.new_event_loop()
    try:
        loop.run_until_complete(door(scope, receive, send))
    finally:
        _LOOPS.append(loop)
    return answered[0]
