"""GitHub's token service, and the server's doors for leases and locks, as real HTTP servers."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from action.environment.build_lease import Post
from action.inputs import Secret, TokenDoor
from action.server import Server
from action.workflow import PlainConsole


@dataclass
class Doors:
    """GitHub's token service and the server's doors: one lease, and the locks of commits."""

    url: str
    status: int = 200
    holder: str | None = None
    asks: list[dict[str, Any]] = field(default_factory=list)
    locks: dict[str, dict[str, str]] = field(default_factory=dict)  # by the query
    asked: threading.Condition = field(default_factory=threading.Condition)
    tokens: list[str] = field(default_factory=list)

    def lease(self, ask: dict[str, Any]) -> dict[str, Any]:
        with self.asked:
            self.asks.append(ask)
            if self.holder in {None, ask["holder"]}:
                self.holder = None if ask["done"] else ask["holder"]
                granted = True
            else:
                granted = False
            self.asked.notify_all()
            holder = self.holder or ask["holder"]
            return {"granted": granted, "holder": holder, "until": "2026-01-31T12:00:00Z"}

    def server(self) -> Server:
        door = TokenDoor(url=f"{self.url}/token?api-version=2.0", token=Secret("of-the-job"))
        return Server(url=self.url, audience="cynthus", door=door)

    def post(self, holder: str, **more: Any) -> Post:
        console = more.pop("console", PlainConsole(io.StringIO()))
        return Post(server=self.server(), holder=holder, console=console, **more)


def _handler(doors: Doors) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/token":
                doors.tokens.append(f"token-{len(doors.tokens)}")
                return self._answer(200, {"value": doors.tokens[-1]})
            found = doors.locks.get(query)
            return self._answer(200 if found else 404, found or {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.headers["Authorization"].removeprefix("Bearer ")
            doors.tokens.remove(token)  # each is good for one use
            if doors.status != 200:
                return self._answer(doors.status, {})
            return self._answer(200, doors.lease(body))

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def doors() -> Iterator[Doors]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Doors(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = _handler(found)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
