"""Carry requests between a loopback socket and the routes, faults included."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simulators.gcp_faults import ANSWER_KINDS
from simulators.gcp_http import Answer, Body, GoogleError, Request, Route, Router, no_page
from simulators.gcp_state import Doc
from simulators.gcp_world import World

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 18
# What is left unread of a refused upload; beyond that closing is cheaper than reading.
_LARGEST_REST = 1 << 20


class Server(ThreadingHTTPServer):
    """One loopback port for all APIs; a thread per connection, kept alive."""

    daemon_threads = True
    request_queue_size = 1024  # hundreds of instances are ordered at once

    def __init__(
        self, world: World, routes: Iterable[Route], *, port: int = 0, exchanges: Path | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.world = world
        self.router = Router(routes)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._log = exchanges.open("a", buffering=1) if exchanges else None
        self._log_lock = threading.Lock()
        world.on("request.late", self._late)

    def handle(self, request: Request) -> Answer:
        """Answer one request; what it did is in the state when this returns."""
        found = self.router.find(request.method, request.path)
        if found is None:
            return no_page()
        route, request.args = found
        answer, fault = self._struck(request, route)
        if self._log is not None and route.verb:
            self._note(request, route, answer, fault)
        return answer

    def _struck(self, request: Request, route: Route) -> tuple[Answer, Doc | None]:
        fault = self._fault(request, route)
        if fault and fault["kind"] == "delay":
            time.sleep(float(fault.get("seconds", 1)))
        if fault and fault["kind"] == "error":
            return _refusal(fault), fault
        if fault and fault["kind"] == "lost":
            if fault.get("effect", True):
                self._answer(request, route)
            time.sleep(float(fault.get("seconds", 0)))
            return Answer(lost=True), fault
        if fault and fault["kind"] == "late":
            self._postpone(request, float(fault.get("seconds", 120)))
            return (_refusal(fault) if "code" in fault else Answer(lost=True)), fault
        return self._answer(request, route), fault

    def _postpone(self, request: Request, seconds: float) -> None:
        """Have a request take effect later, when nobody waits for its answer any more."""
        sent = {"method": request.method, "path": request.path, "query": request.query}
        with self.world.lock:
            self.world.later(seconds, "request.late", **sent, body=request.json())

    def _late(self, event: Doc) -> None:
        request = Request(
            method=event["method"],
            path=event["path"],
            query=event["query"],
            headers={},
            source=io.BytesIO(),
            note=event["body"],
        )
        found = self.router.find(request.method, request.path)
        assert found is not None
        route, request.args = found
        with contextlib.suppress(GoogleError):  # refused, and nobody hears of it
            route.handler(request)

    def _fault(self, request: Request, route: Route) -> Doc | None:
        if not route.verb:
            return None
        facts = {
            **request.args,
            "api": route.api,
            "verb": route.verb,
            "method": request.method,
            "path": request.path,
            "query": request.query,
        }
        with self.world.lock:
            return self.world.faults.take(ANSWER_KINDS, facts)

    def _answer(self, request: Request, route: Route) -> Answer:
        try:
            for gate in self.world.gates if route.verb else ():
                gate(request, route)
            if not route.locked:
                return route.handler(request)
            request.json()
            with self.world.lock:
                self.world.run_due()
                return route.handler(request)
        except GoogleError as error:
            return error.answer()
        except Exception as error:  # noqa: BLE001 - told to the client, and logged with its trace
            if not route.verb:  # the control door is for tests: say what was wrong with the wish
                return GoogleError(400, f"the wish could not be understood: {error!r}").answer()
            # A bug of ours must not look like a broken network.
            _LOG.exception("%s %s", request.method, request.path)
            return GoogleError(
                500, f"the simulator failed: {error!r}", reason="internalError"
            ).answer()

    def _note(self, request: Request, route: Route, answer: Answer, fault: Doc | None) -> None:
        line = {
            "verb": route.verb,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "request": request.note,
            "status": 0 if answer.lost else answer.status,
            "response": answer.json,
            "fault": fault["kind"] if fault else None,
        }
        with self._log_lock:
            assert self._log is not None
            self._log.write(json.dumps(line) + "\n")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left; everything else is a bug of ours and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _refusal(fault: Doc) -> Answer:
    if isinstance(fault.get("body"), str):  # a proxy's page, or half a document
        return Answer(
            status=fault.get("code", 502),
            data=fault["body"].encode(),
            media_type=fault.get("media_type", "text/html; charset=UTF-8"),
            headers=fault.get("headers") or {},
        )
    error = GoogleError(
        fault.get("code", 503),
        fault.get("message", "The service is currently unavailable."),
        reason=fault.get("reason"),
        status=fault.get("status"),
    )
    return Answer(status=error.code, json=error.body, headers=fault.get("headers") or {})


class _Sized:
    """A body of known length on a kept-alive connection."""

    def __init__(self, source: Body, length: int) -> None:
        self._source = source
        self.left = length

    def read(self, size: int = -1, /) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        data = self._source.read(wanted) if wanted else b""
        self.left -= len(data)
        if len(data) < wanted:
            self.left = 0  # the client left in the middle
        return data


class _Chunked:
    """A body sent with `Transfer-Encoding: chunked`."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._chunk = 0
        self.left = 1  # not yet at the end

    def read(self, size: int = -1, /) -> bytes:
        parts: list[bytes] = []
        wanted = size
        while wanted != 0 and self._more():
            take = self._chunk if wanted < 0 else min(wanted, self._chunk)
            data = self._source.read(take)
            if not data:
                raise ConnectionResetError("the client left in the middle of a chunk")
            self._chunk -= len(data)
            wanted -= len(data) if wanted > 0 else 0
            parts.append(data)
            if self._chunk == 0:
                self._source.readline()  # the line end after each chunk
        return b"".join(parts)

    def _more(self) -> bool:
        if self.left and self._chunk == 0:
            line = self._source.readline().split(b";")[0].strip()
            if not line:
                raise ConnectionResetError("the client left before the last chunk")
            self._chunk = int(line, 16)
            if self._chunk == 0:
                self.left = 0
                while self._source.readline().strip():
                    pass  # trailers
        return bool(self.left)


class _Connection(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are written apart: 40 ms otherwise
    server: Server

    def do_any(self) -> None:
        source = self._source()
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=parts.path,
            query=parts.query,
            headers={name.lower(): value for name, value in self.headers.items()},
            source=source,
        )
        answer = self.server.handle(request)
        if answer.lost:
            self._cut()
            return
        if source.left > _LARGEST_REST:
            self.close_connection = True
        else:
            source.read()
        self._send(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_any  # noqa: N815 - the base class's names

    def _source(self) -> _Sized | _Chunked:
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            return _Chunked(self.rfile)
        length = self.headers.get("content-length") or "0"
        return _Sized(self.rfile, int(length) if length.isdigit() else 0)

    def _send(self, answer: Answer) -> None:
        pieces, length = _pieces(answer)
        self.send_response(answer.status)
        bare = answer.status in {204, 304}
        if not bare:
            self.send_header("Content-Type", answer.media_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if length is not None and not bare:
            self.send_header("Content-Length", str(length))
        elif not bare:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD" and not bare:
            self._write(pieces, chunked=length is None, cut_after=answer.cut_after)

    def _write(self, pieces: Iterable[bytes], *, chunked: bool, cut_after: int | None) -> None:
        sent = 0
        for piece in pieces:
            if cut_after is not None and sent + len(piece) > cut_after:
                self.wfile.write(piece[: cut_after - sent])
                self._cut()
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            sent += len(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        self.close_connection = True
        # A reset, as a broken network gives; a plain close would look like an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: `--exchanges` is the log."""


def _pieces(answer: Answer) -> tuple[Iterable[bytes], int | None]:
    """Return the body in pieces, and its length where it is known."""
    if answer.file is not None:
        size = answer.file.stat().st_size - answer.offset
        length = size if answer.length is None else min(answer.length, size)
        return _read(answer.file, answer.offset, length), length
    if answer.stream is not None:
        return answer.stream, answer.length
    data = answer.data
    if data is None:
        data = b"" if answer.json is None else json.dumps(answer.json).encode()
    return [data], len(data)


def _read(file: Path, offset: int, length: int) -> Iterator[bytes]:
    with file.open("rb") as source:
        source.seek(offset)
        while length > 0 and (piece := source.read(min(_CHUNK, length))):
            length -= len(piece)
            yield piece
