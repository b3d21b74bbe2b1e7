"""The metadata server of one machine: HTTP around the rules, on a socket that is handed in."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote, urlsplit

from simulators.gcp_metadata import Identity, Question, Reply, Values, reply

WAITING_CLIENTS = 64  # the backlog of a listening socket


class MetadataServer:
    """Answers on `listener` from now on, until `close`; its threads end with the process."""

    def __init__(self, listener: socket.socket, values: Values, identity: Identity) -> None:
        self._server = _Server(listener, values, identity)
        self.port = int(listener.getsockname()[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End it; whoever still waits for a change sees the connection close. Safe to repeat."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    # Not http.server's own: that one asks DNS for our name, ten seconds where there is none.
    daemon_threads = True

    def __init__(self, listener: socket.socket, values: Values, identity: Identity) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.values, self.identity = values, identity
        self._clients: set[socket.socket] = set()
        listener.listen(WAITING_CLIENTS)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._clients.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.discard(request)

    def server_close(self) -> None:
        super().server_close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a machine that is switched off cuts its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def version_string(self) -> str:
        return "Metadata Server for VM"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet: metadata is asked for all the time."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the base class's names

    def _answer(self) -> None:
        url = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        question = Question(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(size),
        )
        self._send(reply(self.server.values, self.server.identity, question), url.query)

    def _send(self, answer: Reply, query: str) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        if answer.etag:
            self.send_header("ETag", answer.etag)
        if answer.location:
            self.send_header("Location", answer.location + (f"?{query}" if query else ""))
        self.send_header("X-XSS-Protection", "0")
        self.send_header("X-Frame-Options", "SAMEORIGIN")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
