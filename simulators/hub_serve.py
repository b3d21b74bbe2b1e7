"""Carry requests between two loopback sockets and a simulated hub, faults included.

The parser is our own: Python's takes so long over the headers that it, and not the client, would be
what a benchmark of ten thousand small files measures.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from simulators.hub_faults import Fault
from simulators.hub_http import Answer, Host, Request
from simulators.hub_world import Hub

_LONGEST_LINE = 1 << 16
_LARGEST_BODY = 1 << 28  # a test's seed of contents
_BARE = {204, 304}
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_SLICE_S = 0.05  # how finely a slow stream is cut
_RESET = struct.pack("ii", 1, 0)  # close without lingering: a reset, as a broken network gives


class Listener(socketserver.ThreadingTCPServer):
    """One loopback port; a thread per connection, kept alive."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(
        self, hub: Hub, host: Host, *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.hub, self.host, self.tls = hub, host, tls

    @property
    def port(self) -> int:
        """Return where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left; everything else is a bug of ours and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Connection(socketserver.StreamRequestHandler):
    """One client's connection."""

    rbufsize = 1 << 16
    disable_nagle_algorithm = True  # head and body are written apart: 40 ms otherwise
    server: Listener

    def setup(self) -> None:
        if self.server.tls is not None:  # here, so that a slow handshake keeps nobody waiting
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        while self._one():
            pass

    def _one(self) -> bool:
        """Answer one request; False ends the connection."""
        line = self.rfile.readline(_LONGEST_LINE).decode("latin-1").split()
        if len(line) != 3:
            return False
        method, target, version = line
        headers = self._headers()
        path, _, query = target.partition("?")
        request = Request(
            host=self.server.host,
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=self._body(headers),
        )
        hub = self.server.hub
        control = path.startswith("/_sim/")
        faults = {} if control else hub.faults.take(request.host, method, target)
        if slow := faults.get("slow"):
            time.sleep(float(slow.get("delay_s", 0)))
        answer = hub.answer(request, faults)
        if not control:
            hub.seen.note(_line(request, answer))
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return self._send(request, answer, faults, keep=keep) and keep

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self.rfile.readline(_LONGEST_LINE).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks()
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _LARGEST_BODY:
            raise ConnectionAbortedError("a body that nobody sends to a hub")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError("the client left in the middle")
        return body

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(_LONGEST_LINE).split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(_LONGEST_LINE)
        while self.rfile.readline(_LONGEST_LINE).strip():
            pass  # trailers
        return b"".join(parts)

    def _send(
        self, request: Request, answer: Answer, faults: dict[str, Fault], *, keep: bool
    ) -> bool:
        if "drop_answer" in faults:
            self._reset()
            return False
        bare = answer.status in _BARE
        length = answer.length
        more = int(faults.get("wrong_length", {}).get("more", 0))
        head = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}"]
        if not bare:
            head += [f"Content-Type: {answer.media_type}", f"Content-Length: {length + more}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        head += [] if keep else ["Connection: close"]
        start = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1", "replace")
        if bare or request.method == "HEAD":
            self.connection.sendall(start)
            return True
        if answer.content is None and not faults:
            self.connection.sendall(start + answer.data)
            return True
        self.connection.sendall(start)
        return self._stream(answer, faults) and not more

    def _stream(self, answer: Answer, faults: dict[str, Fault]) -> bool:
        """Send the body; False when a fault ended it early."""
        end = _end(answer.length, faults)
        if not faults and answer.content and isinstance(answer.content.source, Path):
            with answer.content.source.open("rb") as file:
                self.connection.sendfile(file, answer.start, end)
            return True
        sent, rate = 0, float(faults.get("slow", {}).get("bytes_per_s", 0))
        for piece in _pieces(answer, end):
            data = _other(piece) if sent == 0 and "corrupt" in faults else piece
            self._write(data, rate)
            sent += len(piece)
        if "reset" in faults:
            self._reset()
        return sent == answer.length

    def _write(self, data: bytes | memoryview, rate: float) -> None:
        if not rate:
            self.connection.sendall(data)
            return
        size = max(int(rate * _SLICE_S), 1)
        for start in range(0, len(data), size):
            self.connection.sendall(data[start : start + size])
            time.sleep(_SLICE_S)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()

    def finish(self) -> None:
        if self.connection.fileno() != -1:  # a reset has closed it
            super().finish()
        if self.server.tls is not None:
            self.connection.close()  # the server only knows the socket below it


def _end(length: int, faults: dict[str, Fault]) -> int:
    """Return after how many bytes of the body a fault ends it."""
    cuts = [int(faults[kind].get("after", 0)) for kind in ("cut", "reset") if kind in faults]
    return min([length, *cuts])


def _pieces(answer: Answer, end: int) -> Any:
    if answer.content is None:
        return iter([memoryview(answer.data)[:end]])
    return answer.content.pieces(answer.start, answer.start + end)


def _other(piece: bytes | memoryview) -> bytes:
    return bytes([piece[0] ^ 1]) + bytes(piece[1:]) if piece else b""


def _line(request: Request, answer: Answer) -> dict[str, Any]:
    """Return what is remembered of a request; of a credential only its kind."""
    return {
        "host": request.host,
        "method": request.method,
        "path": request.path,
        "query": request.query if request.host == "api" else "",  # a signature is a credential
        "auth": request.headers.get("authorization", "").partition(" ")[0],
        "agent": request.headers.get("user-agent", ""),
        "range": request.headers.get("range", ""),
        "status": answer.status,
        "unknown": answer.unknown,
        "bytes": 0 if request.method == "HEAD" else answer.length,
    }
