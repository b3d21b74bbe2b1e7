"""Carry one request to one server and back: connections that are kept, proxies, time limits."""

from __future__ import annotations

import base64
import http.client
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from action.registry.reference import is_loopback

CONNECT_S = 15.0  # a TCP and a TLS handshake around the world take two
SILENCE_S = 60.0  # a registry that says nothing for so long has lost us
COMMIT_S = 600.0  # it hashes what was sent before it answers: GitHub allows an upload ten minutes
PIECE_BYTES = 1 << 18  # large enough that Python's loop costs nothing beside TLS
_MOST_IDLE = 8  # connections kept to one server: layers are sent by a few threads
_IDLE_S = 30.0  # load balancers close after 60 s and more
_DRAIN_BYTES = 1 << 16  # reading so much of an answer is cheaper than a new connection
LONGEST_ANSWER = 8 << 20  # of what is held in memory: twice the largest manifest


class NoAnswer(Exception):  # noqa: N818 - what happened, told upwards
    """The exchange broke off; `passes` tells whether trying again may help."""

    def __init__(self, reason: str, *, passes: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passes = passes


@dataclass(frozen=True, kw_only=True)
class Body:
    """What is sent, made anew for each try."""

    size_bytes: int
    pieces: Callable[[], Iterator[bytes]]


def body_of(content: bytes) -> Body:
    """Return a body that is held in memory."""
    return Body(size_bytes=len(content), pieces=lambda: iter((content,) if content else ()))


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    answer_s: float = SILENCE_S

    @property
    def origin(self) -> str:
        """Return scheme, host and port: what a credential belongs to."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


class Answer:
    """What came back; leaving the `with` block gives the connection to the next request."""

    def __init__(
        self, response: http.client.HTTPResponse, request: Request, done: Callable[[bool], None]
    ) -> None:
        self.status: int = response.status
        self.headers = response.headers
        self.url = request.url
        self._response, self._done = response, done

    def read(self, size: int = LONGEST_ANSWER) -> bytes:
        """Return up to `size` bytes more; fewer than there are only at the end.

        Raises: NoAnswer when the connection breaks before the promised length.
        """
        try:
            content = self._response.read(size)
            # http.client tells of a body that was cut only when all of it is asked for at once.
            if len(content) < size and (self._response.length or 0) > 0:
                raise NoAnswer("the connection broke in the middle of the answer")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(_reason(error)) from error
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back, or end it when much of the answer was not read."""
        self._done(self._drained())

    def _drained(self) -> bool:
        if self._response.isclosed():
            return True
        try:
            self._response.read(_DRAIN_BYTES)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return self._response.isclosed()


class Connections:
    """Connections to any number of servers, shared by threads.

    `clock` counts seconds; `tls` holds the trusted authorities (by default the system's, or what
    SSL_CERT_FILE names: https://docs.python.org/3/library/ssl.html#ssl.SSLContext.load_default_certs).
    """

    def __init__(self, clock: Callable[[], float], tls: ssl.SSLContext | None = None) -> None:
        self._clock = clock
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, http.client.HTTPConnection]]] = {}

    def send(self, request: Request) -> Answer:
        """Send a request and return the head of its answer, whatever it says.

        Raises: NoAnswer.
        """
        try:
            kept = self._kept(request.origin)
            if kept is not None:
                try:
                    return self._exchange(kept, request)
                except _GONE:  # it was closed while it lay idle, a moment before we wrote
                    kept.close()
                    if request.body is not None and request.body.size_bytes:
                        raise
            return self._exchange(self._connect(request), request)
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not trusted: {error.verify_message}"
            raise NoAnswer(
                f"{reason}; SSL_CERT_FILE can name another authority", passes=False
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(_reason(error)) from error

    def close(self) -> None:
        """End what is idle. Safe to repeat."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for _, connection in (entry for entries in idle.values() for entry in entries):
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, request: Request) -> Answer:
        try:
            cut = _write(connection, request)
            if connection.sock is not None:
                connection.sock.settimeout(request.answer_s)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        reusable = not cut and not response.will_close

        def done(drained: bool) -> None:
            if drained and reusable:
                self._keep(request.origin, connection)
            else:
                response.close()
                connection.close()

        return Answer(response, request, done)

    def _kept(self, origin: str) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                since, connection = idle.pop()
            if self._clock() - since < _IDLE_S and not _closed_by_peer(connection):
                return connection
            connection.close()

    def _keep(self, origin: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(origin, [])
            if len(idle) < _MOST_IDLE:
                idle.append((self._clock(), connection))
                return
        connection.close()

    def _connect(self, request: Request) -> http.client.HTTPConnection:
        parts = urlsplit(request.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http" and is_loopback(parts.netloc):
            connection = http.client.HTTPConnection(host, port, timeout=CONNECT_S)
        elif parts.scheme == "https":
            connection = self._secure(host, port)
        else:
            raise NoAnswer(
                f"{parts.scheme}://{parts.netloc} is neither https nor this machine", passes=False
            )
        connection.connect()
        sock: socket.socket = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two writes
        sock.settimeout(SILENCE_S)
        return connection

    def _secure(self, host: str, port: int | None) -> http.client.HTTPConnection:
        with self._lock:
            self._tls = self._tls or ssl.create_default_context()
        proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get("https")
        if proxy is None:
            return http.client.HTTPSConnection(host, port, timeout=CONNECT_S, context=self._tls)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 3128, timeout=CONNECT_S, context=self._tls
        )
        connection.set_tunnel(
            host, port or 443, headers=_proxy_login(parts.username, parts.password)
        )
        return connection


_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


def _write(connection: http.client.HTTPConnection, request: Request) -> bool:
    """Write head and body; return whether the server stopped listening before the end.

    One that has heard enough (401, 413) answers and closes: the answer is still worth reading.
    """
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": "cynthus", **request.headers}
    if request.body is not None:
        headers["Content-Length"] = str(request.body.size_bytes)
    if connection.sock is not None:
        connection.sock.settimeout(SILENCE_S)
    connection.putrequest(request.method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for piece in request.body.pieces() if request.body is not None else ():
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def _closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    """Return whether an idle connection has something to read: that is its end, or nonsense."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def _proxy_login(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _reason(error: BaseException) -> str:
    """Return a few words; a proxy's address or a header's value is never among them."""
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "the connection was cut"
    if isinstance(error, http.client.HTTPException):
        return f"what came is not HTTP: {type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
