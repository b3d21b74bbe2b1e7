"""Lead each request to its door: the busy ones directly, the others through FastAPI."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cynthus.errors import Transient
from webhook_server.routes.access import check_host
from webhook_server.routes.answers import (
    Disconnected,
    Door,
    HttpRefusal,
    Message,
    Receive,
    Scope,
    Send,
    drain,
    refuse,
)
from webhook_server.routes.parts import Parts
from webhook_server.stores.run_store import RunUnreadable

log = logging.getLogger(__name__)

_HOSTLESS = frozenset({"/healthz", "/readyz"})  # load balancers ask by address


@dataclass(frozen=True)
class Busy:
    """A door of its own: `name` in the metrics, `takes` says whether a request is for it."""

    name: str
    takes: Callable[[str, str], bool]  # method, path
    door: Door


class Later:
    """An application that is built in a thread when first needed: the start stays fast."""

    def __init__(self, build: Callable[[], Door]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._built: Door | None = None

    def get(self) -> Door:
        """Return the application, built once."""
        with self._lock:
            built = self._built if self._built is not None else self._build()
            self._built = built
        return built

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lead the request on."""
        built = self._built if self._built is not None else await asyncio.to_thread(self.get)
        await built(scope, receive, send)


class Front:
    """The ASGI application."""

    def __init__(self, parts: Parts, busy: tuple[Busy, ...], pages: Later) -> None:
        self._parts, self._busy, self._pages = parts, busy, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, the server goes on."""
        if scope["type"] != "http":
            return  # lifespan is app.py's own business, web sockets are not served
        visit = _Visit(send)
        name = "pages"
        try:
            if scope["path"] not in _HOSTLESS:
                check_host(self._parts, scope)
            name, door = self._find(scope)
            await door(scope, receive, visit.send)
        except Disconnected:
            visit.status = visit.status or 499  # nobody was left to be answered: nginx's number
        except HttpRefusal as refusal:
            if refusal.status == 413:  # noqa: PLR2004 - Content Too Large
                await drain(receive)
            await visit.refuse(refusal)
        except RunUnreadable as error:
            await visit.refuse(HttpRefusal(410, str(error)))
        except Transient as error:
            await visit.refuse(HttpRefusal(503, str(error), retry_after_s=1))
        except Exception:  # the outermost guard: a fault of ours must not reach other requests
            log.exception("request failed door=%s method=%s", name, scope["method"])
            await visit.refuse(HttpRefusal(500, "server: has a fault. Tell its operator."))
        finally:
            self._parts.counters.request(name, visit.status)

    def _find(self, scope: Scope) -> tuple[str, Door]:
        method, path = scope["method"], scope["path"]
        for busy in self._busy:
            if busy.takes(method, path):
                return busy.name, busy.door
        return "pages", self._pages


class _Visit:
    """One answer on its way, and its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, refusal: HttpRefusal) -> None:
        """Refuse, unless an answer has begun: then it ends here, visibly cut short."""
        if not self.status:
            await refuse(self.send, refusal)
