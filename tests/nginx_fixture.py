"""nginx as deploy/nginx sets it up, on sockets of its own instead of ports."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from demo.processes import Programs, wait_until

NAME = "cynthus.test"
TEMPLATE = Path(__file__).parents[1] / "deploy/nginx/cynthus.conf.template"
PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"  # as Debian has it: not on everybody's PATH
# What an installation has around the template; temporary files lie with the rest of the test.
# Nothing of it may be said again on the same level: nginx would not start.
_AROUND = """
user root;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 65;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/cynthus.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    folder: Path

    @property
    def tls(self) -> str:
        """Return the path of the socket that stands for port 443."""
        return str(self.folder / "tls")

    @property
    def plain(self) -> str:
        """Return the path of the socket that stands for port 80."""
        return str(self.folder / "plain")

    def connect(self, name: str = NAME) -> ssl.SSLSocket:
        """Open a connection as a client that trusts the certificate."""
        context = ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))
        bare = socket.socket(socket.AF_UNIX)
        bare.settimeout(60)
        bare.connect(self.tls)
        return context.wrap_socket(bare, server_hostname=name)

    def http(self) -> HTTPConnection:
        """Open a connection that speaks HTTP."""
        connection = HTTPConnection(NAME, timeout=60)
        connection.sock = self.connect()
        return connection


@contextlib.contextmanager
def nginx(upstream: str, changes: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """Run the proxy before `upstream` until the block ends; `changes` are made in its text."""
    # The path of a socket has 107 characters at most: pytest's own folders may be longer.
    with tempfile.TemporaryDirectory(prefix="cynthus-nginx-") as name:
        folder, programs = Path(name), Programs(Path(name) / "log")
        _write_certificate(folder)
        text = _made_ready(folder, upstream, changes or {})
        (folder / "cynthus.conf").write_text(text, "utf-8")
        (folder / "nginx.conf").write_text(_AROUND.format(folder=folder), "utf-8")
        words = [PROGRAM, "-p", name, "-e", f"{name}/error.log", "-c", f"{name}/nginx.conf"]
        try:
            program = programs.start("nginx", [*words, "-g", "daemon off;"])
            wait_until(lambda: _listens(folder / "tls"), "nginx", program)
            yield Proxy(folder)
        finally:
            programs.stop()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def _made_ready(folder: Path, upstream: str, changes: Mapping[str, str]) -> str:
    text = TEMPLATE.read_text("utf-8")
    wanted = {
        "${CYNTHUS_NAME}": NAME,
        "${CYNTHUS_UPSTREAM}": upstream,
        "/etc/nginx/tls/": f"{folder}/",
        "listen 443 ": f"listen unix:{folder}/tls ",
        "listen 80 ": f"listen unix:{folder}/plain ",
        **changes,
    }
    for found, put in wanted.items():
        assert found in text, found
        text = text.replace(found, put)
    assert not re.search(r"\$\{[A-Z]", text)
    return text


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "privkey.pem").write_bytes(secret)
