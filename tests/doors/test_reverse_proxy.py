"""The proxy of deploy/nginx before a real server: what passes through it, and what it cuts off."""

from __future__ import annotations

import hashlib
import hmac
import json
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from demo.processes import wait_until
from tests.light_stage import WEBHOOK_SECRET, LightStage, light_stage
from tests.nginx_fixture import NAME, Proxy, nginx
from webhook_server.auth.blob_urls import GetTerms, PutTerms, get_url, put_url
from webhook_server.routes.github_events import MAX_BYTES
from webhook_server.stores.blob_protocol import blob_key

# As shipped but for the waiting: a test need not sit it out.
QUICK = {"client_header_timeout 15s;": "client_header_timeout 1s;"}
PIECE = bytes(range(256)) * 256


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LightStage]:
    folder = tmp_path_factory.mktemp("behind")
    with light_stage(folder, CYNTHUS_PUBLIC_URL=f"https://{NAME}") as opened:
        yield opened


@pytest.fixture(scope="module")
def proxy(stage: LightStage) -> Iterator[Proxy]:
    with nginx(f"127.0.0.1:{stage.server.port}", QUICK) as running:
        yield running


def ask(
    proxy: Proxy,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    connection = proxy.http()
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def delivery(body: bytes, guid: str) -> dict[str, str]:
    digest = hmac.new(WEBHOOK_SECRET.encode(), body, "sha256").hexdigest()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": "watch",
        "X-GitHub-Delivery": guid,
        "X-Hub-Signature-256": f"sha256={digest}",
    }


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    # Cut off without ceremony: that is an end, too.
    with suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


# ── what passes ─────────────────────────────────────────────────────────────────────────────────


def test_a_signed_delivery_is_accepted_and_a_forged_one_is_not(proxy: Proxy) -> None:
    body = b'{"zen": "x"}'
    headers = delivery(body, "proxy-delivery-1")
    assert ask(proxy, "POST", "/webhooks/github", body, headers)[0] == 202
    assert ask(proxy, "POST", "/webhooks/github", body + b" ", headers)[0] == 401


def test_a_delivery_of_the_largest_size_passes(proxy: Proxy) -> None:
    body = b'{"a": "' + b"x" * (MAX_BYTES - 9) + b'"}'
    assert len(body) == MAX_BYTES
    headers = delivery(body, "proxy-delivery-2")
    assert ask(proxy, "POST", "/webhooks/github", body, headers)[0] == 202


def test_events_come_while_the_run_goes_on(proxy: Proxy, stage: LightStage) -> None:
    run_id = stage.submit("sleep 600")
    connection = proxy.http()
    bearer = {"Authorization": f"Bearer {stage.server.api_token}"}
    connection.request("GET", f"/api/v1/runs/{run_id}/stream", headers=bearer)
    answer = connection.getresponse()
    assert answer.status == 200
    while not answer.readline().startswith(b"data:"):
        pass
    stage.client.cancel(run_id)  # only now may it end: what was read had not waited for the end
    assert b'"finished"' in answer.read()
    connection.close()


def test_a_large_file_streams_in_and_out_again(proxy: Proxy, stage: LightStage) -> None:
    pieces = 768  # of 64 KiB: 48 MiB, twice the limit of a message
    content = PIECE * pieces
    digest = hashlib.sha256(content).hexdigest()
    key = blob_key(7, "arun", 1, "outputs/model.pt")
    server_key = (stage.server.state / "server.key").read_bytes()
    later = datetime.now(UTC) + timedelta(minutes=10)
    terms = PutTerms(size_bytes=len(content), sha256=digest)
    put = put_url("", server_key, key, terms, later)
    connection = proxy.http()
    connection.putrequest("PUT", put)
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders()
    half = len(content) // 2
    connection.send(content[:half])
    incoming = stage.server.state / "blobs" / ".incoming"
    wait_until(  # the server has begun to write before all of it was sent
        lambda: any(path.stat().st_size > half // 4 for path in incoming.glob("*")), "the upload"
    )
    connection.send(content[half:])
    assert connection.getresponse().status == 201
    connection.close()
    get = get_url("", server_key, key, GetTerms(file_name="model.pt"), later)
    status, found = ask(proxy, "GET", get)
    assert (status, hashlib.sha256(found).hexdigest()) == (200, digest)


def test_people_may_speak_http_2_and_plain_http_leads_to_tls(proxy: Proxy) -> None:
    words = ["curl", "--silent", "--http2", "--output", "/dev/null", "--max-time", "60"]
    words += ["--write-out", "%{http_version} %{response_code}", "--unix-socket", proxy.tls]
    words += ["--cacert", str(proxy.folder / "fullchain.pem"), f"https://{NAME}/healthz"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=90)
    assert told.stdout == "2 200"
    plain = HTTPConnection(NAME, timeout=60)
    plain.sock = socket.socket(socket.AF_UNIX)
    plain.sock.connect(proxy.plain)
    plain.request("GET", "/runs/x?a=b")
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/runs/x?a=b")
    plain.close()


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


def test_26_megabytes_are_refused_by_their_length_or_as_they_come(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.sendall(
            f"POST /webhooks/github HTTP/1.1\r\nHost: {NAME}\r\n"
            f"Content-Length: {MAX_BYTES + 1}\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with proxy.connect() as connection:
        headers = delivery(b"", "proxy-delivery-3")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(
            f"POST /webhooks/github HTTP/1.1\r\nHost: {NAME}\r\n{lines}"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        sent = 0
        try:
            while sent < 64 and not select.select([connection], [], [], 0)[0]:
                connection.sendall(piece)
                sent += 1
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass  # it has hung up on us
        assert sent < 64


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ],
)
def test_w19_two_ideas_of_where_a_body_ends_are_refused(proxy: Proxy, lines: str) -> None:
    with proxy.connect() as connection:
        connection.sendall(
            f"POST /webhooks/github HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n0\r\n\r\n".encode()
        )
        answer = until_closed(connection)
    assert answer.split()[1] in {b"400", b"501"}
    assert answer.count(b"HTTP/1.1 ") == 1


def test_100_kilobytes_of_headers_are_refused(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Long: ".encode())
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"a" * 100_000 + b"\r\n\r\n")
        assert b" 400 " in until_closed(connection)[:20]


def test_another_name_gets_no_certificate_and_another_host_no_answer(proxy: Proxy) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        proxy.connect("evil.example")
    assert ask(proxy, "GET", "/", headers={"Host": "evil.example"})[0] == 421


def test_metrics_are_not_for_the_world(proxy: Proxy, stage: LightStage) -> None:
    bearer = {"Authorization": f"Bearer {stage.server.api_token}"}
    assert ask(proxy, "GET", "/metrics", headers=bearer)[0] == 404


# ── who is slow ─────────────────────────────────────────────────────────────────────────────────


def test_w13_slow_headers_bodies_and_idle_connections_are_cut_off_while_others_are_served(
    proxy: Proxy,
) -> None:
    """Only their ends are waited for: the server's 8 s for a delivery, nginx's for headers."""
    idle = [proxy.connect() for _ in range(30)]
    headers = [proxy.connect() for _ in range(30)]
    bodies = [proxy.connect() for _ in range(10)]
    lines = "".join(f"{k}: {v}\r\n" for k, v in delivery(b"", "proxy-delivery-4").items())
    for connection in headers:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Drip: ".encode())
    for connection in bodies:
        connection.sendall(
            f"POST /webhooks/github HTTP/1.1\r\nHost: {NAME}\r\n{lines}"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
    assert ask(proxy, "GET", "/healthz") == (200, b"ok\n")
    for connection in (*idle, *headers):
        assert until_closed(connection)[:9] in {b"", b"HTTP/1.1 "}
        connection.close()
    for connection in bodies:
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
        connection.close()
    assert ask(proxy, "GET", "/healthz") == (200, b"ok\n")


# ── what the server is told, and how often one may ask ──────────────────────────────────────────


class Recorder(BaseHTTPRequestHandler):
    """Stands where the server would, and notes what it is told."""

    told: ClassVar[list[tuple[str, list[tuple[str, str]]]]] = []

    def do_GET(self) -> None:
        self.told.append((self.path, self.headers.items()))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorded() -> Iterator[Proxy]:
    changes = {"rate=5r/s": "rate=1r/m", "burst=100 nodelay": "burst=4 nodelay"}
    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            Recorder.told.clear()
            with nginx(f"127.0.0.1:{server.server_port}", changes) as running:
                yield running
        finally:
            server.shutdown()
            thread.join()


def test_what_a_client_claims_about_its_way_is_dropped(recorded: Proxy) -> None:
    claims = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X_Forwarded_For": "127.0.0.1",
    }
    path = "/blobs/7/a%2Fb//c?x=%2e%2e"
    assert ask(recorded, "GET", path, headers=claims)[0] == 200
    ((seen, headers),) = Recorder.told
    assert seen == path  # as it was signed
    told = {name.lower(): value for name, value in headers}
    assert len(told) == len(headers)
    assert told["host"] == NAME
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("unix:", "https")
    assert "evil" not in json.dumps(headers)
    assert "127.0.0.1" not in json.dumps(headers)


def test_who_guesses_is_slowed_down_and_nobody_else(recorded: Proxy) -> None:
    asked = [ask(recorded, "GET", "/sign-in")[0] for _ in range(8)]
    assert asked[:5] == [200] * 5
    assert 429 in asked
    assert ask(recorded, "GET", "/healthz")[0] == 200
