"""Who sends or takes slowly is cut off, each by its own limit, while others are served."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta

import psutil
import pytest

from tests.doors.conftest import SPEC, Site
from webhook_server.auth.blob_urls import GetTerms, PutTerms, get_url, put_url
from webhook_server.routes import answers, blobs, slow_clients
from webhook_server.stores.blob_protocol import blob_key

CUT_OFF_S = 20  # W13 of any limit; what is chosen lies below it
LARGE = bytes(range(256)) * (1 << 17)  # 32 MiB: more than the buffers of two sockets hold
KEY = blob_key(7, "arun", 1, "outputs/model.pt")
OTHER_KEY = blob_key(7, "arun", 1, "outputs/other.pt")
_TICK_S = 0.2  # between two bytes of one that drips
_MOST_TICKS = 450  # a minute and a half: not a limit of ours, but the end of a hopeless wait


@dataclass(frozen=True)
class Slow:
    """One client; `drip` is what it sends now and then."""

    kind: str
    connection: socket.socket
    drip: bytes = b""

    @property
    def port(self) -> int:
        return int(self.connection.getsockname()[1])

    def tick(self) -> None:
        """Send a little, whether or not somebody is there."""
        with suppress(OSError):
            self.connection.send(self.drip)


def held(site: Site) -> set[int]:
    """Return the ports of those clients whose connections the server, this process, still holds."""
    found = psutil.Process().net_connections("tcp")
    return {link.raddr.port for link in found if link.raddr and link.laddr.port == site.port}


@pytest.fixture
def clients(site: Site) -> Iterator[list[Slow]]:
    with ExitStack() as stack:
        yield [
            Slow(kind, stack.enter_context(_connected(site, sent)), drip)
            for kind, sent, drip in _kinds(site)
            for _ in range(5)
        ]


def _connected(site: Site, sent: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", site.port))
    connection.sendall(sent)
    connection.setblocking(False)
    return connection


def _kinds(site: Site) -> list[tuple[str, bytes, bytes]]:
    later = site.parts.now() + timedelta(hours=1)
    terms = PutTerms(size_bytes=len(LARGE), sha256=hashlib.sha256(LARGE).hexdigest())
    put = put_url("", site.parts.server_key, KEY, terms, later)
    assert site.ask("PUT", put, body=LARGE).status == 201
    get = get_url("", site.parts.server_key, KEY, GetTerms(file_name="m"), later)
    other = put_url("", site.parts.server_key, OTHER_KEY, terms, later)
    agent = site.an_agent()
    for _ in range(40):
        assert agent.beat(("log", {"text": "x" * 250_000 + "\n"})).status == 200
    host = "HTTP/1.1\r\nHost: localhost\r\n"
    stream = f"/api/v1/runs/{agent.run_id}/stream"
    kinds = [
        ("says nothing", "", b""),
        ("drips headers", f"GET / {host}X-Drip: ", b"a"),
        (
            "drips a second request's headers behind a whole one",
            f"GET /healthz {host}\r\nGET / {host}X-Drip: ",
            b"a",
        ),
        (
            "drips a message",
            f"POST /api/v1/runs {host}Content-Type: application/json\r\n"
            f"Content-Length: {len(SPEC) + 1000}\r\n\r\n{{",
            b" ",
        ),
        (
            "drips what was refused already",
            f"POST /api/v1/nowhere {host}Content-Length: 100000\r\n\r\n",
            b"a",
        ),
        ("stops in a file", f"PUT {other} {host}Content-Length: {len(LARGE)}\r\n\r\nx", b""),
        ("takes nothing of a file", f"GET {get} {host}\r\n", b""),
        ("takes nothing of a stream", f"GET {stream} {host}\r\n", b""),
    ]
    return [(kind, sent.encode(), drip) for kind, sent, drip in kinds]


@pytest.mark.case("W13")
def test_every_kind_of_slow_client_is_cut_off_while_others_are_served(
    site: Site, clients: list[Slow]
) -> None:
    assert site.ask("GET", "/healthz").status == 200  # beside all of them
    left, pause = clients, threading.Event()
    for _ in range(_MOST_TICKS):
        for client in left:
            client.tick()
        there = held(site)
        left = [client for client in left if client.port in there]
        if not left or pause.wait(_TICK_S):
            break
    assert sorted({client.kind for client in left}) == []
    assert site.ask("GET", "/healthz").status == 200
    incoming = site.parts.settings.state_dir / "blobs" / ".incoming"
    with suppress(FileNotFoundError):
        assert list(incoming.iterdir()) == []


@pytest.mark.case("W13")
def test_every_limit_lies_below_what_is_promised() -> None:
    limits = (
        slow_clients.HEADER_LIMIT_S,
        slow_clients.REST_LIMIT_S,
        answers.BODY_LIMIT_S,
        blobs._STALL_LIMIT_S,
    )
    assert [limit for limit in limits if not 0 < limit < CUT_OFF_S] == []


@pytest.mark.case("W3", "W13")
def test_100_kilobytes_of_headers_are_refused_in_one_line_or_many(site: Site) -> None:
    one = b"X-Long: " + b"a" * 100_000
    many = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 90) for n in range(1000))
    for headers in (one, many):
        with socket.create_connection(("127.0.0.1", site.port), 60) as connection:
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers)
            assert b" 431 " in connection.recv(1000)


def test_a_hundred_pipelined_requests_are_answered_in_their_order(site: Site) -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 99
    last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), 60) as connection:
        connection.sendall(asked + last)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 200 ") == 99
    assert answer.rindex(b"HTTP/1.1 404 ") > answer.rindex(b"HTTP/1.1 200 ")
