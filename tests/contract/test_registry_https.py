"""The registry client over https: authorities of one's own, proxies, ways down that it refuses."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from action.failures import RegistryAway, RegistryRefused
from action.registry.client import Registry
from tests.oci_fixture import LOGIN, Waits

HOST = "registry.corp.example"  # exists only behind the proxy


class Secure(BaseHTTPRequestHandler):
    """A registry that has nothing but, at some paths, bad manners."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]  # path, authorization
    answers: dict[str, tuple[int, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        status, headers = self.answers.get(self.path, (404, {}))
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    do_POST = do_HEAD = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class Proxy(BaseHTTPRequestHandler):
    """Connects everything to one port of this machine, and remembers what it was asked for."""

    target: int
    seen: list[tuple[str, str]]

    def do_CONNECT(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        with socket.create_connection(("127.0.0.1", self.target)) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with key and certificate for HOST, signed by itself."""
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Corporation:
    """A registry that is reached by a proxy alone."""

    def __init__(self, authority: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority)
        self.registry = type("R", (Secure,), {"seen": [], "answers": {}})
        self.proxy = type("P", (Proxy,), {"seen": []})
        self._servers = [serve(self.registry, tls), serve(self.proxy)]
        self.proxy.target = self._servers[0].server_address[1]
        self.proxy_port = self._servers[1].server_address[1]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def corporation(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Corporation]:
    found = Corporation(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("HTTPS_PROXY", f"http://us%40er:p%3Aw@127.0.0.1:{found.proxy_port}")
    monkeypatch.setenv("NO_PROXY", "")
    yield found
    found.close()


def client(**more: object) -> Registry:
    return Registry(HOST, LOGIN, **({"wait": Waits()} | more))


def test_a_proxy_and_an_authority_of_ones_own(corporation: Corporation) -> None:
    with client() as registry:
        assert registry.manifest("a/b", "v1") is None
        assert registry.manifest("a/b", "v2") is None
    assert corporation.proxy.seen == [(f"{HOST}:443", "Basic dXNAZXI6cDp3")]  # one connection
    assert [path for path, _ in corporation.registry.seen] == [
        "/v2/a/b/manifests/v1",
        "/v2/a/b/manifests/v2",
    ]


@pytest.mark.case("R18")
def test_a_certificate_of_nobody_is_not_tried_again(
    corporation: Corporation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    waits = Waits()
    with client(wait=waits) as registry, pytest.raises(RegistryAway, match="SSL_CERT_FILE"):
        registry.manifest("a/b", "v1")
    assert waits == []
    assert corporation.registry.seen == []


def test_no_proxy_is_obeyed(corporation: Corporation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", ".example")
    # It looks the name up itself, which the tests' guard forbids.
    with client() as registry, pytest.raises(RuntimeError, match="no outside name"):
        registry.manifest("a/b", "v1")
    assert corporation.proxy.seen == []


@pytest.mark.parametrize(
    "location",
    ["http://storage.example/x", "http://127.0.0.1:1/x", "ftp://storage.example/x", "file:///etc/passwd"],
)  # fmt: skip
def test_it_is_not_led_down_from_https(corporation: Corporation, location: str) -> None:
    digest = "sha256:" + "0" * 64
    path = f"/v2/a/b/blobs/{digest}"
    corporation.registry.answers[path] = (307, {"Location": location})
    told = pytest.raises(RegistryRefused, match="which is not https")
    with client() as registry, registry.read("a/b", digest) as content, told:
        content.read()


def test_a_circle_is_left(corporation: Corporation) -> None:
    path = "/v2/a/b/manifests/v1"
    corporation.registry.answers[path] = (302, {"Location": path})
    with client() as registry, pytest.raises(RegistryRefused, match="in a circle"):
        registry.manifest("a/b", "v1")


def test_a_login_stays_with_its_origin(corporation: Corporation) -> None:
    """Basic is asked for; the storage of another name is then reached without it."""
    path = "/v2/a/b/manifests/v1"
    corporation.registry.answers[path] = (401, {"WWW-Authenticate": 'Basic realm="x"'})
    with client() as registry, pytest.raises(RegistryRefused):
        registry.manifest("a/b", "v1")
    assert [auth for _, auth in corporation.registry.seen] == ["", LOGIN.basic]


def test_a_realm_in_the_open_gets_no_login(corporation: Corporation) -> None:
    challenge = f'Bearer realm="http://127.0.0.1:{corporation.proxy_port}/token",service="x"'
    corporation.registry.answers["/v2/a/b/manifests/v1"] = (401, {"WWW-Authenticate": challenge})
    with client() as registry, pytest.raises(RegistryRefused, match="token service by https"):
        registry.manifest("a/b", "v1")


def test_a_location_by_http_of_the_same_host_means_https(corporation: Corporation) -> None:
    """A registry behind a proxy that ends TLS often believes to be called by http."""
    path = "/v2/a/b/manifests/v1"
    corporation.registry.answers[path] = (307, {"Location": f"http://{HOST}/elsewhere"})
    with client() as registry:
        assert registry.manifest("a/b", "v1") is None
    assert [path for path, _ in corporation.registry.seen][-1] == "/elsewhere"


def test_plain_http_is_for_this_machine_only() -> None:
    from action.registry.connections import Connections, NoAnswer, Request

    with pytest.raises(NoAnswer, match="neither https nor this machine"):
        Connections(lambda: 0).send(Request(method="GET", url="http://10.0.0.1/v2/"))
