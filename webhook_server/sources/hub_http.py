"""Ask a hub one thing: a fixed host, bounded in time, size and redirects."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from cynthus.errors import Transient

LIMIT_S = 8.0  # of one answer: hubs take well below a second
#: A page of 1,000 files has some 200 kB; the card of a dataset with thousands of subsets has 2 MB.
LIMIT_BYTES = 8 << 20
_REDIRECTS = 3  # a repository that was renamed once or twice
_MOVED = frozenset({301, 302, 303, 307, 308})
_OK = 200
# https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9 and its neighbours: they pass by themselves.
_PASSING = frozenset({408, 425, 429})
_SERVER_FAULTS = 500


class HubAway(Transient):
    """The hub did not answer at all: whoever asks it next will wait in vain as well."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a hub said."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)

    @property
    def fine(self) -> bool:
        """Say whether it did what it was asked."""
        return self.status == _OK

    def json(self) -> Any:
        """Return the body's value. Raises: Transient: a proxy or a fault page stands between."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Transient("the hub answers something that is no JSON. Try again.") from error


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    path: str  # with its query
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    whole: bool = True  # False: the status alone counts, and no redirect is followed


class Hub:
    """One hub at one address; safe to use from many threads."""

    def __init__(self, url: str, *, limit_s: float = LIMIT_S) -> None:
        self.url = url.rstrip("/")
        self._limit_s = limit_s

    def ask(self, question: Question) -> Answer:
        """Return the answer, whatever its status below 500; redirects stay with this host.

        Safe to repeat. Raises: Transient when it does not answer in time, or not now.
        """
        url = f"{self.url}{question.path}"
        ends_at = time.monotonic() + self._limit_s
        for _ in range(_REDIRECTS + 1):
            answer = self._once(url, question, ends_at)
            if answer.status not in _MOVED or not question.whole:
                return self._passing(answer)
            url = _joined(url, answer.headers.get("location", "")) or ""
            if _origin(url) != _origin(self.url):
                raise Transient(f"{self.url}: sends its askers to another host. Try again.")
        raise Transient(f"{self.url}: sends its askers in circles. Try again.")

    def link(self, url: str) -> str | None:
        """Return the path of an address that the hub gave, if it is the hub's own."""
        absolute = _joined(f"{self.url}/", url)
        if absolute is None or _origin(absolute) != _origin(self.url):
            return None
        return absolute[len(_origin(self.url)) :].removeprefix(urlsplit(self.url).path)

    def _passing(self, answer: Answer) -> Answer:
        if answer.status >= _SERVER_FAULTS or answer.status in _PASSING:
            raise Transient(f"{self.url}: answers {answer.status} now. Try again.")
        return answer

    def _once(self, url: str, question: Question, ends_at: float) -> Answer:
        parts = urlsplit(url)
        left_s = max(ends_at - time.monotonic(), 0.001)
        secure = parts.scheme == "https"
        opener = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = opener(parts.hostname or "", parts.port, timeout=left_s)
        # A socket's own time-out starts anew with every byte; a slow drip is ended from outside.
        alarm = threading.Timer(left_s, _cut, [connection])
        alarm.daemon = True
        alarm.start()
        try:
            return _read(
                connection, parts.path + (f"?{parts.query}" if parts.query else ""), question
            )
        # An error's text may name an address with a token: its type is enough.
        except OSError as error:
            raise HubAway(f"{self.url}: does not answer ({type(error).__name__}).") from error
        except (http.client.HTTPException, ValueError) as error:
            late = time.monotonic() >= ends_at
            kind = HubAway if late else Transient
            raise kind(
                f"{self.url}: answers what cannot be read ({type(error).__name__})."
            ) from error
        finally:
            alarm.cancel()
            connection.close()


def _read(connection: http.client.HTTPConnection, target: str, question: Question) -> Answer:
    headers = {"Accept": "application/json", "Connection": "close", **question.headers}
    connection.request(question.method, target or "/", question.body, headers)
    with connection.getresponse() as reply:  # one that is not read to its end stays open
        body = reply.read(LIMIT_BYTES + 1) if question.whole else b""
        if question.whole and reply.length and len(body) <= LIMIT_BYTES:
            raise http.client.IncompleteRead(body, reply.length)  # `read` says nothing of a cut
    if len(body) > LIMIT_BYTES:
        raise ValueError("answered too much")
    told = {name.lower(): value for name, value in reply.getheaders()}
    return Answer(status=reply.status, headers=told, body=body)


def _joined(base: str, url: str) -> str | None:
    """Return where an address leads; None: it is none."""
    try:
        joined = urljoin(base, url)
        urlsplit(joined)
    except ValueError:
        return None
    return joined


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):  # it may have ended in this very moment
            connection.sock.shutdown(socket.SHUT_RDWR)


def bearer(token: str) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, key: str) -> dict[str, str]:
    """Return the header that shows a name with its key."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}
