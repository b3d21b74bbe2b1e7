"""A host that the registry only sends us on to gets no login out of us."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from action.failures import RegistryRefused
from tests.oci_fixture import LOGIN, client

DIGEST = "sha256:" + "1" * 64


class Storage(ThreadingHTTPServer):
    """Where blobs lie; it asks for a login of its own, and keeps what it is shown."""

    def __init__(self, realm: str) -> None:
        super().__init__(("127.0.0.1", 0), _Storage)
        self.challenge = realm.replace("HERE", f"http://{self.host}/token")
        self.shown: list[str | None] = []

    @property
    def host(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self.server_port}"


class _Storage(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["Authorization"])
        self.send_response(401)
        self.send_header("WWW-Authenticate", self.server.challenge)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Sender(ThreadingHTTPServer):
    """A registry that keeps its blobs elsewhere."""

    def __init__(self, to: str) -> None:
        super().__init__(("127.0.0.1", 0), _Sender)
        self.to = to
        self.shown: list[str | None] = []


class _Sender(BaseHTTPRequestHandler):
    server: Sender

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["Authorization"])
        self.send_response(307)
        self.send_header("Location", f"http://{self.server.to}/blob")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(params=['Bearer realm="HERE",service="s"', 'Basic realm="s"'])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Sender, Storage]]:
    storage = Storage(request.param)
    sender = Sender(storage.host)
    threads = [
        threading.Thread(target=one.serve_forever, args=(0.01,)) for one in (storage, sender)
    ]
    for thread in threads:
        thread.start()
    yield sender, storage
    for one in (storage, sender):
        one.shutdown()
        one.server_close()
    for thread in threads:
        thread.join()


def test_a_storage_that_asks_for_a_login_gets_none(servers: tuple[Sender, Storage]) -> None:
    sender, storage = servers
    with client(f"127.0.0.1:{sender.server_port}", "distribution", LOGIN) as registry:
        for _ in range(2):
            with (
                pytest.raises(RegistryRefused),
                registry.read("acme/train", DIGEST) as content,
            ):
                content.read()
    assert storage.shown
    assert set(storage.shown) == {None}
    assert set(sender.shown) == {None}  # it has asked for no login itself
