"""Lead each request to its door: the busy ones directly, the others through FastAPI."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cynthus.errors import Transient
from webhook_server.about import about
from webhook_server.routes.access import check_host
from webhook_server.routes.answers import (
    CONTENT_TOO_LARGE,
    Disconnected,
    Door,
    HttpRefusal,
    Message,
    Receive,
    Scope,
    Send,
    drain,
    header,
    refuse,
)
from webhook_server.routes.parts import Parts
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.traces import span

log = logging.getLogger(__name__)

_REFUSED = 400
#: What comes a thousand times a second, or lasts for hours, is counted and not traced.
_UNTRACED = frozenset({"heartbeat", "stream", "healthz", "readyz", "metrics"})
# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_RUN = re.compile(r"/(?:api/v1/)?runs/([a-z][a-z0-9]{11})(?:/|$)")
# Names requests and guards nothing. The system's own numbers are a call each, in which another
# thread takes the interpreter: a busy door waited a quarter of its time for it.
_numbers = random.Random()  # noqa: S311 - as said; begins with numbers of the system's
_HOSTLESS = frozenset({"/healthz", "/readyz"})  # load balancers ask by address


@dataclass(frozen=True)
class Busy:
    """A door of its own: `name` in the metrics, `takes` says whether a request is for it."""

    name: str
    takes: Callable[[str, str], bool]  # method, path
    door: Door


class Later:
    """An application that is built in a thread when first needed: the start stays fast."""

    # FastAPI silences a warning while it builds, for the whole process: one that another thread
    # builds meanwhile would hear it (https://docs.python.org/3/library/warnings.html#warnings.catch_warnings).
    _one_at_a_time = threading.Lock()

    def __init__(self, build: Callable[[], Door]) -> None:
        self._build = build
        self._built: Door | None = None

    def get(self) -> Door:
        """Return the application, built once."""
        with self._one_at_a_time:
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
        request_id = request_id_of(scope)
        with about(request=request_id, **_run_of(scope["path"])):
            await self._answer(scope, receive, _Visit(send, request_id))

    async def _answer(self, scope: Scope, receive: Receive, visit: _Visit) -> None:
        name = "pages"
        try:
            if scope["path"] not in _HOSTLESS:
                check_host(self._parts, scope)
            name, door = self._find(scope)
            if name in _UNTRACED:
                await door(scope, receive, visit.send)
                return
            with span(f"door {name}", method=scope["method"]):
                await door(scope, receive, visit.send)
        except Disconnected:
            visit.status = visit.status or 499  # nobody was left to be answered: nginx's number
        except HttpRefusal as refusal:
            if refusal.status == CONTENT_TOO_LARGE:
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


def request_id_of(scope: Scope) -> str:
    """Return the id that a request's lines carry: its caller's trace, or a new one."""
    found = _TRACEPARENT.fullmatch(header(scope, b"traceparent"))
    return found[1] if found and found[1].strip("0") else f"{_numbers.getrandbits(128):032x}"


def _run_of(path: str) -> dict[str, str]:
    found = _RUN.match(path)
    return {"run": found[1]} if found else {}


class _Visit:
    """One answer on its way, and its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= _REFUSED:  # so that who was refused can ask about this very request
                known = (b"x-request-id", self._request_id.encode())
                message["headers"] = [*message.get("headers", ()), known]
        await self._send(message)

    async def refuse(self, refusal: HttpRefusal) -> None:
        """Refuse, unless an answer has begun: then it ends here, visibly cut short."""
        if not self.status:
            await refuse(self.send, refusal)
