"""Carry requests between a loopback socket and a simulated registry, faults included."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from simulators.oci_api import Api
from simulators.oci_faults import Fault, Faults
from simulators.oci_http import Answer, Refusal, Request, json_answer

_CHUNK = 1 << 18
_LARGEST_REST = 1 << 20  # of an unread body: beyond that closing is cheaper than reading
_MOST_REMEMBERED = 10_000
_LARGEST_WISH = 1 << 20


class Server(ThreadingHTTPServer):
    """One loopback port; a thread per connection, kept alive."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: Api, *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.api = api
        self.faults = Faults()
        self.url = api.url = api.tokens.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._lock = threading.Lock()
        self._seen: list[dict[str, Any]] = []

    def answer(self, request: Request, faults: list[Fault]) -> Answer:
        """Answer one request; what it did is on the disk when this returns."""
        try:
            for fault in faults:
                self._strike(fault, request)
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer()

    def _route(self, request: Request) -> Answer:
        if request.path.startswith("/_sim/"):
            return self._control(request)
        if request.path == self.api.vendor.token_path:
            return self.api.tokens.give(request)
        return self.api.answer(request)

    def _strike(self, fault: Fault, request: Request) -> None:
        kind = fault["kind"]
        if kind == "slow":
            time.sleep(float(fault.get("delay_s", 1)))
        elif kind == "no_range":
            request.headers = {n: v for n, v in request.headers.items() if n != "range"}
        elif kind == "expire":
            self.api.tokens.expire()
        elif kind == "vanish":
            self.api.store.unlink(fault["repository"], fault["digest"])
        elif kind == "error":
            refusal = Refusal(
                int(fault.get("status", 503)),
                fault.get("code", "UNKNOWN"),
                fault.get("message", "the simulator was told to fail"),
                fault.get("detail"),
            )
            refusal.headers.update(fault.get("headers", {}))
            raise refusal

    def _control(self, request: Request) -> Answer:
        wish = json.loads(request.whole(_LARGEST_WISH) or b"{}")
        match request.method, request.path.removeprefix("/_sim/"):
            case "POST", "faults":
                return json_answer(self.faults.add(wish), 201)
            case "GET", "faults":
                return json_answer(self.faults.all())
            case "DELETE", "faults":
                self.faults.clear()
                return json_answer({})
            case "GET", "requests":
                with self._lock:
                    return json_answer(list(self._seen))
            case "DELETE", "requests":
                with self._lock:
                    self._seen.clear()
                return json_answer({})
            case "POST", "clock":
                self.api.tokens.shift_s += float(wish["advance_s"])
                return json_answer({})
            case "POST", "repositories":
                self.api.made.add(wish["name"])
                return json_answer({}, 201)
            case "POST", "forbidden":
                self.api.tokens.accounts.forbidden.add(wish["name"])
                return json_answer({}, 201)
            case _:
                raise Refusal(404, "UNSUPPORTED", "no such control endpoint")

    def note(self, request: Request, status: int, taken: int) -> None:
        """Remember a request for `GET /_sim/requests`; of a credential only its kind."""
        if request.path.startswith("/_sim/"):
            return
        line = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "auth": request.headers.get("authorization", "").partition(" ")[0],
            "range": request.headers.get("content-range", ""),
            "status": status,
            "bytes": taken,
        }
        with self._lock:
            self._seen.append(line)
            del self._seen[:-_MOST_REMEMBERED]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left; everything else is a bug of ours and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Body:
    """A request's body, of known length or in HTTP's chunks; a fault may cut it."""

    def __init__(self, source: Any, length: int | None, cut_after: int | None) -> None:
        self._source, self._cut_after = source, cut_after
        self._left = length or 0
        self._chunked = length is None
        self._ended = not self._chunked
        self.taken = 0

    @property
    def rest(self) -> int:
        """Return how much was not read; a chunked one counts as much."""
        return self._left if self._ended else _LARGEST_REST + 1

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        if self._chunked and not self._left and not self._ended:
            self._next_chunk()
        wanted = min(size, self._left, _CHUNK)
        if self._cut_after is not None:
            wanted = min(wanted, self._cut_after - self.taken)
            if wanted <= 0:
                raise ConnectionResetError("a fault cut the upload")
        data: bytes = self._source.read(wanted) if wanted else b""
        if len(data) < wanted:
            raise ConnectionResetError("the client left in the middle")
        self._left -= len(data)
        self.taken += len(data)
        if self._chunked and not self._left and not self._ended:
            self._source.readline()  # the line end after each chunk
        return data

    def _next_chunk(self) -> None:
        line = self._source.readline().split(b";")[0].strip()
        if not line:
            raise ConnectionResetError("the client left before the last chunk")
        self._left = int(line, 16)
        if not self._left:
            self._ended = True
            while self._source.readline().strip():
                pass  # trailers


class _Connection(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are written apart: 40 ms otherwise
    server: Server

    def do_any(self) -> None:
        parts = urlsplit(self.path)
        control = parts.path.startswith("/_sim/")
        faults = [] if control else self.server.faults.take(self.command, self.path)
        struck = {fault["kind"]: fault for fault in faults}
        body = self._body(struck.get("cut"))
        request = Request(
            method=self.command,
            path=parts.path,
            query=parts.query,
            headers={  # Docker sends Accept once for each type
                name.lower(): ", ".join(self.headers.get_all(name) or ()) for name in self.headers
            },
            body=body,
            length=None if self._is_chunked() else self._length(),
        )
        try:
            answer = self.server.answer(request, faults)
        except ConnectionError:
            self.server.note(request, 0, body.taken)
            self._cut()
            return
        self.server.note(request, answer.status, body.taken)
        if "drop_answer" in struck:
            self._cut()
            return
        self._finish_body(body)
        self._send(answer, struck)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_any  # noqa: N815 - the base class's names

    def _is_chunked(self) -> bool:
        return "chunked" in (self.headers.get("transfer-encoding") or "").lower()

    def _length(self) -> int:
        length = self.headers.get("content-length") or "0"
        return int(length) if length.isdigit() else 0

    def _body(self, cut: Fault | None) -> _Body:
        after = None if cut is None else int(cut.get("after", 0))
        return _Body(self.rfile, None if self._is_chunked() else self._length(), after)

    def _finish_body(self, body: _Body) -> None:
        if body.rest > _LARGEST_REST:
            self.close_connection = True
            return
        while body.rest and body.read(_CHUNK):
            pass

    def _send(self, answer: Answer, struck: dict[str, Fault]) -> None:
        headers = {"Docker-Distribution-Api-Version": "registry/2.0", **answer.headers}
        if "wrong_digest" in struck:
            headers["Docker-Content-Digest"] = "sha256:" + "0" * 64
        if "stuck_range" in struck and "Range" in headers:
            headers["Range"] = "0-0"
        self.send_response(answer.status)
        bare = answer.status in {204, 304}
        if not bare:
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(answer.length))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and not bare:
            self._write(answer, struck)

    def _write(self, answer: Answer, struck: dict[str, Fault]) -> None:
        cut = struck.get("cut_answer")
        left = answer.length if cut is None else min(int(cut.get("after", 0)), answer.length)
        for piece in _pieces(answer, left):
            self.wfile.write(_other(piece) if "corrupt" in struck else piece)
        if cut is not None:
            self.wfile.flush()
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        # A reset, as a broken network gives; a plain close would look like an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: `GET /_sim/requests` is the log."""


def _pieces(answer: Answer, left: int) -> Any:
    if answer.file is None:
        yield answer.data[:left]
        return
    with answer.file.open("rb") as source:
        source.seek(answer.offset)
        while left > 0 and (piece := source.read(min(_CHUNK, left))):
            left -= len(piece)
            yield piece


def _other(piece: bytes) -> bytes:
    return bytes([piece[0] ^ 1]) + piece[1:] if piece else piece
