"""Fetch bytes from a signed address, from any place in them; after a cut go on where it was."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from runner_images.agent.door import BLOCK_BYTES, TRY_AGAIN, Unanswered, connect

SILENCE_S = 60.0  # between two blocks, not for all of it
TRIES = 6  # in a row without a byte, with pauses about ten seconds in all
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0
_REDIRECTS = 2  # our server to where it keeps blobs: one, and one more for its own reasons
_PART, _WHOLE = 206, 200
_GONE = frozenset({404, 410})  # RFC 9110, 15.5.5 and 15.5.11
_SPAN = re.compile(r"\Abytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which bytes, and of how many."""

    first: int
    last: int  # included
    whole: int


class Gone(Unanswered):
    """The bytes are not there any more: asking again will not help."""


class Over(Protocol):
    """What `threading.Event` says of an end that is waited for."""

    def is_set(self) -> bool:
        """Return whether it has come."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it, so many seconds at most; return whether it has come."""


class Fetcher:
    """Fetches for one thread; keeps its connection."""

    def __init__(self, over: Over, stopping: Callable[[], bool]) -> None:
        self._over, self._stopping = over, stopping
        self._kept: tuple[str, http.client.HTTPConnection] | None = None

    def bytes_of(self, url: str, span: Span) -> Iterator[bytes]:
        """Yield exactly these bytes. Raises: Unanswered once nothing more comes."""
        at, failures = span.first, 0
        while at <= span.last:
            before = at
            try:
                for block in self._blocks(url, Span(first=at, last=span.last, whole=span.whole)):
                    at += len(block)
                    yield block
            except (OSError, http.client.HTTPException) as error:
                self.close()
                failures = failures + 1 if at == before else 1
                pause_s = min(_FIRST_PAUSE_S * 2.0**failures, _LONGEST_PAUSE_S)
                if failures >= TRIES or self._over.wait(pause_s):
                    raise Unanswered(f"fetch: broke off at byte {at}: {error}") from error

    def _blocks(self, url: str, span: Span) -> Iterator[bytes]:
        answer = self._asked(url, span)
        left = span.last - span.first + 1
        while left:
            if self._stopping() or self._over.is_set():
                self.close()
                raise Unanswered("fetch: was stopped")
            block = answer.read(min(BLOCK_BYTES, left))
            if not block:
                raise http.client.IncompleteRead(b"", left)
            left -= len(block)
            yield block
        if answer.read(1):  # reading to the end frees the connection for the next one
            raise http.client.HTTPException("more came than was asked for")

    def _asked(self, url: str, span: Span) -> http.client.HTTPResponse:
        for _ in range(_REDIRECTS + 1):
            answer = self._get(url, span)
            if answer.status not in {302, 303, 307}:
                _check(answer, span)
                return answer
            answer.read()
            there = _led_to(url, answer.headers.get("location", ""))
            if url.startswith("https:") and not there.startswith("https:"):
                raise Unanswered("fetch: was led from https to something else")
            url = there
        raise Unanswered("fetch: was led around")

    def _get(self, url: str, span: Span) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # Nothing but the range: the address is all the right that there is.
        told = {"range": f"bytes={span.first}-{span.last}", "accept-encoding": "identity"}
        place = f"{parts.scheme}://{parts.netloc}"
        if self._kept is not None and self._kept[0] != place:
            self.close()
        if self._kept is None:
            self._kept = place, connect(url, SILENCE_S)
        connection = self._kept[1]
        connection.request("GET", target, headers=told)
        return connection.getresponse()

    def close(self) -> None:
        """End the kept connection. Safe to repeat."""
        if self._kept is not None:
            self._kept[1].close()
        self._kept = None


def _led_to(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise Unanswered("fetch: was led to what is no address") from error


def _check(answer: http.client.HTTPResponse, span: Span) -> None:
    """Raise unless exactly this part was answered; OSError where asking again may help."""
    if answer.status >= 500 or answer.status in TRY_AGAIN:  # noqa: PLR2004 - RFC 9110, 15.6
        raise OSError(f"the storage answered {answer.status}")
    if answer.status in _GONE:
        raise Gone(f"fetch: the storage answered {answer.status}")
    found = _SPAN.match(answer.headers.get("content-range", ""))
    whole = span.first == 0 and span.last == span.whole - 1
    if answer.status == _WHOLE and whole:
        return
    if (
        answer.status != _PART
        or found is None
        or (int(found[1]), int(found[2])) != (span.first, span.last)
    ):
        raise Unanswered(f"fetch: the storage answered {answer.status}")
