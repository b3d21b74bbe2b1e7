"""A TCP link between two programs that a test can cut, slow down, or leave half open."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PIECE_BYTES = 16 * 1024  # small enough for a slow link to be slow evenly
NOT_THERE_S = 0.05  # until the next target is tried: a server that is started again


@dataclass
class Link:
    """One listening port; what connects to it is joined to the first target that answers.

    Its state is changed by its methods only, from any thread, and holds for old and new
    connections alike.
    """

    loop: asyncio.AbstractEventLoop
    targets: tuple[int, ...]
    port: int = 0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0  # 0: as fast as it goes
    met: int = 0  # pieces and connections that found the link harmed
    left_out: set[int] = field(default_factory=set)  # targets that get no new connection
    _is_cut: bool = False
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _turn: Iterator[int] = field(default_factory=itertools.count)

    # ── what a test does ───────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection, and every new one at once."""
        self._do(self._cut)

    def hold(self) -> None:
        """Leave everything connected and let no byte through: the other side seems to be there."""
        self._do(self._flows.clear)

    def slow(self, *, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """Let every piece take its time."""
        self.delay_s, self.bytes_per_s = delay_s, bytes_per_s

    def heal(self) -> None:
        """Be a good link again. Safe to repeat."""
        self.slow(delay_s=0.0)
        self._do(self._heal)

    def _do(self, change: Callable[[], None]) -> None:
        done = threading.Event()

        def changed() -> None:
            change()
            done.set()

        self.loop.call_soon_threadsafe(changed)
        done.wait()

    def _cut(self) -> None:
        self._is_cut = True
        for end in list(self._ends):
            end.transport.abort()

    def _heal(self) -> None:
        self._is_cut = False
        self._flows.set()

    # ── what it does ───────────────────────────────────────────────────────────────────────────

    async def open(self) -> asyncio.Server:
        self._flows.set()
        server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            self._meet()
            await self._flows.wait()
            if self._is_cut:
                return
            there = await self._target()
            if there is None:
                return
            self._ends.add(there[1])
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, there[1]))
                    both.create_task(self._carry(there[0], writer))
            finally:
                self._close(there[1])
        except* (OSError, asyncio.IncompleteReadError):
            pass  # an end is gone: so is the connection
        finally:
            self._close(writer)

    def _meet(self) -> None:
        self.met += self._is_cut or self.delay_s > 0 or not self._flows.is_set()

    async def _target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connect to a target that listens, each in its turn."""
        first = next(self._turn)
        for number in range(len(self.targets)):
            port = self.targets[(first + number) % len(self.targets)]
            if port in self.left_out:
                continue
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            self._meet()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        await self._flows.wait()
        if writer.can_write_eof():
            writer.write_eof()

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._ends.discard(writer)
        writer.transport.abort() if self._is_cut else writer.close()


class Links:
    """The links of one stage, in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._all: list[Link] = []

    def to(self, *targets: int, port: int = 0) -> Link:
        """Open a link to the first of some loopback ports that answers, each asked in its turn."""

        async def made() -> Link:
            link = Link(self._loop, targets, port)
            self._servers.append(await link.open())
            return link

        self._all.append(asyncio.run_coroutine_threadsafe(made(), self._loop).result(60))
        return self._all[-1]

    def heal(self) -> None:
        for link in self._all:
            link.heal()

    def close(self) -> None:
        """End every connection, then the thread."""

        async def ended() -> None:
            for server in self._servers:
                server.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(ended(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
