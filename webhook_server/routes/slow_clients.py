"""Cut off clients that hold a connection without sending a whole request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webhook_server.routes.answers import ARRIVING

HEADER_LIMIT_S = 15.0  # within the 20 s of the cases; a phone on a bad line needs two
HEADER_LIMIT_BYTES = 32 * 1024  # twice what common servers take: tokens and cookies fit
# For what is left of a request that was answered before it was whole; a refused message needs less.
REST_LIMIT_S = 15.0
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


# uvicorn takes its protocol as a class, and offers no limit for headers but through one:
# https://www.uvicorn.org/settings/#implementation
class PatientProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, patient for so long and so many bytes of headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Start the clock: a request must come."""
        super().connection_made(transport)
        self._header_bytes, self._in_headers = 0, False
        self._cut_off: asyncio.TimerHandle | None = None
        self._receiving = False
        self._rest_cut_off: asyncio.TimerHandle | None = None
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_clock()
        self._stop_rest_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a request's headers are complete."""
        if self._cut_off is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        # Most requests come whole: a clock is started only where more must come.
        if self._in_headers and self._cut_off is None:
            self._header_bytes = len(data)
            self._expect_headers()
        if self._cut_off is not None and self._header_bytes > HEADER_LIMIT_BYTES:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Note that a further request begins on the same connection."""
        super().on_message_begin()
        self._receiving = self._in_headers = True

    def on_headers_complete(self) -> None:
        """Stop the clock, and let the application hang up on this client."""
        self._stop_clock()
        self._header_bytes, self._in_headers = 0, False
        scope: dict[str, Any] = self.scope  # type: ignore[assignment] # extensions are open
        more = scope.setdefault("extensions", {})
        more["cynthus.hang_up"] = self.transport.abort
        more[ARRIVING] = self._is_arriving
        super().on_headers_complete()

    def _is_arriving(self) -> bool:
        return self._receiving

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._receiving = False
        self._stop_rest_clock()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start a clock for a request that was answered before all of it came.

        uvicorn's own clock for idle connections begins anew with every byte: one that drips what
        nobody reads any more would stay for ever.
        """
        super().on_response_complete()
        answered = self.cycle is not None and self.cycle.response_complete
        if self._receiving and answered and self._rest_cut_off is None:
            self._rest_cut_off = self.loop.call_later(REST_LIMIT_S, self.transport.close)

    def _stop_rest_clock(self) -> None:
        if self._rest_cut_off is not None:
            self._rest_cut_off.cancel()
            self._rest_cut_off = None

    def _expect_headers(self) -> None:
        self._cut_off = self.loop.call_later(HEADER_LIMIT_S, self._refuse, _TOO_SLOW)

    def _stop_clock(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None

    def _refuse(self, answer: bytes) -> None:
        self._stop_clock()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
