"""Speak HTTP with the control plane."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from cynthus.errors import CynthusError

ANSWER_LIMIT_BYTES = 4 << 20  # an enrolment with 64 env entries of 32 KiB is half of it
TIMEOUT_S = 10.0  # one heartbeat period: later, the next beat is due anyway
UPLOAD_TIMEOUT_S = 120.0  # between two blocks of an upload, not for all of it
BLOCK_BYTES = 256 * 1024
TRY_AGAIN = frozenset({408, 425, 429})


class Unanswered(CynthusError):  # noqa: N818 - reads as what happened
    """The server was not reached, or could not answer now: the same call may be made again."""


class TurnedAway(CynthusError):  # noqa: N818 - as above
    """The server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What a server answered; names of headers are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Door:
    """The way to one control plane; keeps one connection, so each thread opens its own."""

    def __init__(self, server_url: str, *, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._server_url = server_url.rstrip("/") + "/"
        self._timeout_s = timeout_s
        self._token = token
        self._kept: http.client.HTTPConnection | None = None

    def post(self, path: str, message: object) -> Any:
        """Send one message and return the JSON answer, None for 204 (nothing to say).

        Safe to repeat are all of our messages.

        Raises: Unanswered (try again), TurnedAway (the server said no).
        """
        body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            answer = self._exchange(urlsplit(self._server_url).path + path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unanswered(f"{self._server_url}: {type(error).__name__}: {error}") from error
        return _read(answer)

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._kept is not None:
            try:
                return _ask(self._kept, path, body, headers)
            except (ConnectionError, http.client.HTTPException):
                self.close()  # the server ends idle connections: that is no outage
        self._kept = connect(self._server_url, self._timeout_s)
        return _ask(self._kept, path, body, headers)

    def close(self) -> None:
        """End the kept connection."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def put(
        self,
        url: str,
        content: BinaryIO,
        upload: Upload,
    ) -> None:
        """Store exactly `upload.size_bytes` of `content` under a signed URL.

        Raises: Unanswered (try again from the start), TurnedAway.
        """
        _refuse(put_once(urljoin(self._server_url, url), content, upload))


@dataclass(frozen=True, kw_only=True)
class Upload:
    """How much is sent, with which headers, and how many seconds are left for it."""

    size_bytes: int
    headers: Mapping[str, str] = field(default_factory=dict)
    left_s: Callable[[], float] = lambda: UPLOAD_TIMEOUT_S


def put_once(url: str, content: BinaryIO, upload: Upload) -> Answer:
    """PUT the next bytes of `content`, without any token of ours; return what was answered.

    Raises: Unanswered when the connection fails, or no time is left.
    """
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    told = {"content-type": "application/octet-stream", **upload.headers}
    connection = connect(url, max(0.1, min(UPLOAD_TIMEOUT_S, upload.left_s())))
    try:
        connection.putrequest("PUT", target)
        for name, value in {**told, "content-length": str(upload.size_bytes)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for block in _blocks(content, upload.size_bytes):
            if upload.left_s() <= 0:
                raise OSError("no time is left")
            connection.send(block)
        found = connection.getresponse()
        answered = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, found.read(ANSWER_LIMIT_BYTES), answered)
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(f"upload: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """Return a connection to the address, not yet made; `timeout_s` is for each wait."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)


def _ask(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    connection.request("POST", path, body, dict(headers))
    found = connection.getresponse()
    content = found.read(ANSWER_LIMIT_BYTES)
    if found.read(1):
        raise http.client.HTTPException(f"answer longer than {ANSWER_LIMIT_BYTES} bytes")
    return Answer(found.status, content)


def _blocks(content: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left:
        block = content.read(min(BLOCK_BYTES, left))
        if not block:
            raise OSError("the file became shorter while it was sent")
        yield block
        left -= len(block)


def _read(answer: Answer) -> Any:
    _refuse(answer)
    if answer.status == http.client.NO_CONTENT:
        return None
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise Unanswered("the answer is no JSON") from error


def _refuse(answer: Answer) -> None:
    if 200 <= answer.status < 300:  # noqa: PLR2004 - https://www.rfc-editor.org/rfc/rfc9110#section-15.3
        return
    if answer.status >= 500 or answer.status in TRY_AGAIN:  # noqa: PLR2004 - as above, 15.6
        raise Unanswered(f"the server answered {answer.status}")
    raise TurnedAway(answer.status, _message(answer))


def _message(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status}"
