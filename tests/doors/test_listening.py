"""Answers leave at once: nothing waits for a client's delayed acknowledgement."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from webhook_server.ground import listen
from webhook_server.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_to_the_servers_socket_sends_small_answers_at_once(host: str) -> None:
    assert asyncio.run(_is_undelayed(replace(Settings(), host=host, port=0)))


async def _is_undelayed(settings: Settings) -> bool:
    found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = writer.get_extra_info("socket")
        found.set_result(bool(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    server = await asyncio.start_server(accepted, sock=listen(settings))
    async with server:
        address = server.sockets[0].getsockname()[:2]
        _, writer = await asyncio.open_connection(*address)
        undelayed = await found
        writer.close()
    return undelayed
