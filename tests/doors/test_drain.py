"""A server that stops waits for nobody who was let in as its doors closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from webhook_server.doors import open_doors, open_parts
from webhook_server.ground import ground, listen
from webhook_server.http_server import http_server
from webhook_server.settings import Settings

SETTLED = 20  # turns of the event loop after which the server serves and rests


# Between the last look at the connections and the close of the socket lie a few turns of the event
# loop: of those who knock turn after turn, some stand in between.
@pytest.mark.parametrize("turns", range(8))
def test_who_knocks_as_the_doors_close_is_sent_away(settings: Settings, turns: int) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings))
        found = stack.enter_context(ground(settings, listening))
        client = stack.enter_context(socket.socket())
        client.settimeout(60)

        def at_start() -> None:
            after(SETTLED, server.stop)
            after(SETTLED + turns, lambda: client.connect(listening.getsockname()))

        doors = open_doors(open_parts(found, jobs=None, alive=tuple), github=None)
        server = http_server(doors, started=at_start)
        server.run(sockets=[listening])
        try:
            words = client.recv(1000)
        except OSError:  # it came after the socket was closed
            words = b""
        assert words == b""  # neither answered, nor told after 15 s that it was too slow


def after(turns: int, act: Callable[[], object]) -> None:
    """Act after so many turns of the running event loop."""
    loop = asyncio.get_running_loop()
    loop.call_soon(act) if turns == 0 else loop.call_soon(after, turns - 1, act)
