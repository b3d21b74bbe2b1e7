"""Carry a machine's connections to chosen loopback ports over to the same ports of this host.

The listening sockets lie in the machine's network, the connections out are made in the host's: so
`127.0.0.1:PORT` means the same service inside and outside, and nothing listens where others could
reach it. What a real cable would hold up (cut, slow, a machine that hangs) is held up here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

CHUNK = 64 * 1024
STEP_S = 0.05  # a slowed connection gets its share so often
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends a reset


@dataclass
class Flow:
    """How fast a machine's connections may flow now; shared by all of them, set from any thread."""

    bytes_per_s: float | None = None  # None: as fast as they can
    stopped: set[str] = field(default_factory=set)  # the reasons why nothing flows
    _free_at: float = 0.0

    async def take(self, wanted: int) -> int:
        """Return how many bytes may flow now, 1 to `wanted`; waits until there is one."""
        loop = asyncio.get_running_loop()
        while self.stopped:
            await asyncio.sleep(STEP_S)
        if self.bytes_per_s is None:
            return wanted
        amount = max(1, min(wanted, int(self.bytes_per_s * STEP_S)))
        start = max(self._free_at, loop.time())
        self._free_at = start + amount / self.bytes_per_s
        await asyncio.sleep(start - loop.time())
        return amount

    async def open(self) -> None:
        """Return when something may flow."""
        while self.stopped:
            await asyncio.sleep(STEP_S)


class RelayLoop:
    """One thread that carries every machine's connections."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what `work` returns, done in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread; every relay was closed before. Safe to repeat."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Relay:
    """The relays of one machine."""

    def __init__(self, loop: RelayLoop, listeners: dict[int, socket.socket]) -> None:
        self.flow = Flow()
        self._loop = loop
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = loop.call(self._start(listeners))

    async def _start(self, listeners: dict[int, socket.socket]) -> list[asyncio.Server]:
        return [
            await asyncio.start_server(self._accepted(port), sock=listener, limit=CHUNK)
            for port, listener in listeners.items()
        ]

    def _accepted(self, port: int) -> Any:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(port, reader, writer)

        return connected

    async def _carry(
        self, port: int, inner: asyncio.StreamReader, inner_out: asyncio.StreamWriter
    ) -> None:
        try:
            await self.flow.open()
            outer, outer_out = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
        except OSError:  # nothing listens there: the machine sees its connection reset
            _reset(inner_out)
            return
        except asyncio.CancelledError:
            _reset(inner_out)
            raise
        try:
            await asyncio.gather(self._pump(inner, outer_out), self._pump(outer, inner_out))
        except (OSError, asyncio.CancelledError):
            _reset(inner_out)
            _reset(outer_out)
            raise
        finally:
            inner_out.close()
            outer_out.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK):
            while data:
                amount = await self.flow.take(len(data))
                sink.write(data[:amount])
                data = data[amount:]
                await sink.drain()
        await self.flow.open()
        with contextlib.suppress(OSError):
            sink.write_eof()

    def close(self) -> None:
        """End every connection. Safe to repeat."""
        self._loop.call(self._stop())

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        plug: socket.socket = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
