"""A small real HTTP server that plays an instance's metadata server for tests of the agent."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

ROOT = "/computeMetadata/v1/instance/"


@dataclass
class MetadataServer:
    """Values by their path below `instance/`; those who wait for a change of one hear of it."""

    values: dict[str, str] = field(
        default_factory=lambda: {
            "preempted": "FALSE",
            "maintenance-event": "NONE",
            "network-interfaces/0/ip": "10.128.0.7",
        }
    )
    changes: int = 1
    broken: bool = False  # answers 503 to everything
    asked: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False  # questions may wait for a change for minutes
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def set(self, path: str, text: str) -> None:
        """Change a value."""
        with self.changed:
            self.values[path] = text
            self.changes += 1
            self.changed.notify_all()

    def wait_asked(self, part: str) -> None:
        """Wait until somebody has asked for a path with this part."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(part in path for path in self.asked), 60)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str, str]:
        with self.changed:
            self.asked.append(path + ("?wait" if "wait_for_change" in query else ""))
            self.changed.notify_all()
            if self.broken:
                return 503, "", "0"
            if path == "service-accounts/default/identity":
                return 200, f"identity-for-{query['audience']}-{query['format']}", "0"
            if path == "service-accounts/default/token":
                token = {"access_token": "ya29.of-this-test", "expires_in": 3599}
                return 200, json.dumps(token), "0"
            if path not in self.values:
                return 404, "", "0"
            if query.get("wait_for_change") == "true":
                self._wait(path, query)
            return 200, self.values[path] + "\n", self._etag(path)

    def _wait(self, path: str, query: dict[str, str]) -> None:
        seen = query["last_etag"]
        self.changed.wait_for(lambda: self._etag(path) != seen, float(query["timeout_sec"]))

    def _etag(self, path: str) -> str:
        return format(hash((path, self.values[path])) & 0xFFFFFFFF, "x")


def _handler(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: found[0] for name, found in parse_qs(parts.query).items()}
            if self.headers["Metadata-Flavor"] != "Google" or not parts.path.startswith(ROOT):
                self._send(403, "", "0")
                return
            self._send(*server.answer(parts.path.removeprefix(ROOT), query))

        def _send(self, status: int, text: str, etag: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
