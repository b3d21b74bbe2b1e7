"""A client that takes nothing is let go of, and one that takes its time is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from webhook_server.routes.answers import Disconnected
from webhook_server.routes.blobs import send_or_hang_up

MESSAGE: dict[str, object] = {"type": "http.response.body", "body": b"x", "more_body": True}


class Wire:
    """A connection's far end: takes messages once it is `reading`."""

    def __init__(self, *, reading: bool) -> None:
        self.reading = reading
        self.taken: list[Any] = []
        self.hung_up = False

    async def send(self, message: Any) -> None:
        while not self.reading:
            await asyncio.get_running_loop().create_future()
        self.taken.append(message)

    def hang_up(self) -> None:
        self.hung_up = True

    @property
    def scope(self) -> dict[str, Any]:
        return {"extensions": {"cynthus.hang_up": self.hang_up}}


@pytest.mark.case("D7", "W13")
def test_who_reads_nothing_is_hung_up_on() -> None:
    wire = Wire(reading=False)
    with pytest.raises(Disconnected):
        asyncio.run(send_or_hang_up(wire.scope, wire.send, MESSAGE, limit_s=0.01))
    assert wire.hung_up


def test_a_server_that_cannot_hang_up_stops_sending_all_the_same() -> None:
    wire = Wire(reading=False)
    with pytest.raises(Disconnected):
        asyncio.run(send_or_hang_up({}, wire.send, MESSAGE, limit_s=0.01))


def test_who_reads_is_sent_to() -> None:
    wire = Wire(reading=True)
    asyncio.run(send_or_hang_up(wire.scope, wire.send, MESSAGE))
    assert wire.taken == [MESSAGE]
    assert not wire.hung_up
