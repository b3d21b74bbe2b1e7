"""Serve the doors over HTTP, until asked to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from webhook_server.doors import Doors
from webhook_server.routes.slow_clients import PatientProtocol

DRAIN_S = 15  # of the 30 s that supervisors grant, while the loops end as well
_TICK_S = 1.0  # as often as the header Date changes
# From accepted to known: a task, its transport, and the word of it, a turn each of the event loop.
_TURNS_TO_KNOW = 3
KEEP_ALIVE_S = 30  # agents beat every 10 s: their connection stays
Notice = Callable[[], None]


class _Uvicorn(uvicorn.Server):
    """uvicorn, telling when it serves and when it is asked to stop: it offers methods for both.

    Its own main loop looks ten times a second whether it should exit: most of what an idle server
    does. Ours is woken.
    """

    def __init__(
        self, config: uvicorn.Config, *, started: Notice, stopping: Notice, signalled: Notice
    ) -> None:
        super().__init__(config)
        self._started, self._stopping, self._signalled = started, stopping, signalled
        self._wake: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Return when it should exit; once a second the answers' header Date is set."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        while not await self.on_tick(0):  # 0: the ticks at which it sets the header
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), _TICK_S)
        self._wake = lambda: None  # a second signal may find the event loop closed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, then end every connection, the newest as well.

        uvicorn asks those to end that it knows. One that is accepted and not yet told to it would
        be waited for until it fell silent; one accepted as the socket closes is lost by Python
        (https://github.com/python/cpython/issues/109564).
        """
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
        for _ in range(_TURNS_TO_KNOW):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, then say so."""
        await super().startup(sockets)
        if self.started:
            self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let long answers end, since uvicorn waits for them."""
        self._signalled()
        self._stopping()
        super().handle_exit(sig, frame)
        self._wake()

    def stop(self) -> None:
        """Stop as on SIGTERM, from another thread."""
        self._stopping()
        self.should_exit = True
        self._wake()


def http_server(
    doors: Doors,
    *,
    started: Notice,
    stopping: Notice = lambda: None,
    signalled: Notice = lambda: None,
) -> _Uvicorn:
    """Return the HTTP server, not yet serving."""
    config = uvicorn.Config(
        doors.front,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # Who stands at the door is decided by the connection itself, never by a header.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        backlog=2048,
    )

    def stop() -> None:
        doors.readers.stop()
        stopping()

    return _Uvicorn(config, started=started, stopping=stop, signalled=signalled)
