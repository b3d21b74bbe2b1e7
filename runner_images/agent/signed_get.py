"""Fetch exactly the announced bytes from a signed address; after a cut go on where it stopped."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from runner_images.agent.door import TRY_AGAIN, Unanswered

BLOCK_BYTES = 256 * 1024
TIMEOUT_S = 30.0  # between two blocks, not for all of it
TRIES = 6  # in a row without a byte; with pauses about half a minute in all
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
_REDIRECTS = 3  # our server sends on to the bucket once
_MOVED = frozenset({302, 303, 307, 308})


class Damaged(Exception):  # noqa: N818 - reads as what happened
    """What lies there is not what was announced, or is gone."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is fetched from where."""

    url: str
    size_bytes: int
    sha256: str


class Sink(Protocol):
    """Where the bytes go."""

    def write(self, block: bytes, /) -> object:
        """Take the next bytes, all of them."""


def fetch(wanted: Wanted, into: Sink, pause: Callable[[float], bool]) -> None:
    """Write the bytes to `into`, at its beginning; `pause` waits, and says whether to give up.

    Raises: Damaged; Unanswered when the place does not answer, or when told to give up.
    """
    digest, at, failures = hashlib.sha256(), 0, 0
    while at < wanted.size_bytes:
        began = at
        try:
            for block in _blocks(wanted, at):
                digest.update(block)
                into.write(block)
                at += len(block)
        except (OSError, http.client.HTTPException, Unanswered) as error:
            failures = 0 if at > began else failures + 1
            if failures >= TRIES or pause(min(FIRST_PAUSE_S * 2.0**failures, LONGEST_PAUSE_S)):
                text = f"download: broke off at byte {at} of {wanted.size_bytes}: {error}"
                raise Unanswered(text) from error
    if digest.hexdigest() != wanted.sha256:
        raise Damaged("its bytes are not those that were saved")


def _blocks(wanted: Wanted, first: int) -> Iterator[bytes]:
    """Yield what comes from byte `first` on, at most what is missing.

    Raises: Damaged, Unanswered, OSError, HTTPException.
    """
    url = wanted.url
    for _ in range(_REDIRECTS):
        connection = _connect(url)
        try:
            found = _asked(connection, url, first)
            if found.status in _MOVED:
                url = urljoin(url, found.getheader("location") or "")
                continue
            _check(found, first)
            left = wanted.size_bytes - first
            while left and (block := found.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block
            if left:
                raise Unanswered(f"the connection ended {left} bytes too early")
            return
        finally:
            connection.close()
    raise Damaged("its address leads in a circle")


def _asked(
    connection: http.client.HTTPConnection, url: str, first: int
) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"range": f"bytes={first}-"} if first else {})
    return connection.getresponse()


def _check(found: http.client.HTTPResponse, first: int) -> None:
    status = found.status
    if status >= 500 or status in TRY_AGAIN:  # noqa: PLR2004 - RFC 9110, 15.6
        raise Unanswered(f"the storage answered {status}")
    if status != (206 if first else 200):
        raise Damaged(f"the storage answered {status}")


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
