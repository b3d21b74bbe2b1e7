"""Read public addresses over HTTPS, and never anything of this machine or its network.

A name is resolved once; every address it has is judged, and one of exactly those is connected to,
so that no second answer of a name server counts. Redirects are judged the same way.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from cynthus.hosts import address_is_public
from runner_images.agent.door import Unanswered
from runner_images.agent.workload import CannotStart

REDIRECTS = (
    5  # https://fetch.spec.whatwg.org/#http-redirect-fetch allows 20; mirrors use one or two
)
TIMEOUT_S = 60.0  # without a byte
_MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What may be reached beside public addresses: nothing, but for tests."""

    allowed: frozenset[str] = frozenset()  # "host:port", over plain HTTP too
    tls: ssl.SSLContext | None = None  # None: the system's authorities


NO_EXCEPTION = Trust()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: http.client.HTTPResponse = field(repr=False)


@contextlib.contextmanager
def opened(url: str, headers: Mapping[str, str], trust: Trust) -> Iterator[Opened]:
    """GET the address, through redirects; the caller reads the body.

    Safe to repeat. Raises: CannotStart for what is refused on principle; Unanswered when the
    network fails.
    """
    for _ in range(REDIRECTS + 1):
        connection = _connected(url, trust)
        try:
            answer = _asked(connection, url, headers)
            if answer.status not in _MOVED:
                yield answer
                return
            url = _led_to(url, answer.headers.get("location", ""))
        finally:
            connection.close()
    raise _refused(url, f"redirects more than {REDIRECTS} times")


def _led_to(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _refused(url, "leads to what is no address") from error


def _asked(connection: http.client.HTTPConnection, url: str, headers: Mapping[str, str]) -> Opened:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers=dict(headers))
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise Unanswered(f"{_shown(url)}: {type(error).__name__}: {error}") from error
    found = {name.lower(): value for name, value in answer.getheaders()}
    return Opened(status=answer.status, headers=found, body=answer)


def _connected(url: str, trust: Trust) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError as error:
        raise _refused(url, "is no address") from error
    host = parts.hostname or ""
    known = f"{host}:{port}" in trust.allowed
    if parts.scheme != "https" and not (known and parts.scheme == "http"):
        raise _refused(url, f"should be https, found {parts.scheme or 'nothing'!r}")
    if "@" in parts.netloc or not host:
        raise _refused(url, "should name a host and no user")
    address = _checked_address(url, host, port, known=known)
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    else:
        context = trust.tls or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    # http.client's own seam; the certificate is judged by the host's name, not by the address.
    connection._create_connection = (  # type: ignore[attr-defined]  # noqa: SLF001
        lambda _, *rest: socket.create_connection((address, port), *rest)
    )
    return connection


def _checked_address(url: str, host: str, port: int, *, known: bool) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unanswered(f"{_shown(url)}: {host} cannot be resolved: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not known and not all(_is_public(address) for address in addresses):
        raise _refused(url, "leads to this machine, a private network or a metadata server")
    return addresses[0]


def _is_public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with a scope: link-local
        return False
    return address_is_public(int(address), address.version)


def _refused(url: str, why: str) -> CannotStart:
    return CannotStart(f"{_shown(url)}: {why}; it is not fetched", infrastructure=False)


def _shown(url: str) -> str:
    """Return an address without what may be a signature, a token or a password in it."""
    scheme, mark, rest = url.split("?", 1)[0].split("#", 1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"[:300]
