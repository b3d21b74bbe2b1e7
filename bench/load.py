"""Send many requests from a process of its own: `python -m bench.load PLAN` prints a Measured.

Raw HTTP/1.1 on kept connections, requests made before the clock starts: as little as possible of
what is measured is this client.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from demo.processes import clean_environment
from demo.stage import ROOT

PATIENCE_S = 60.0  # beyond its plan: a server that answers so late has no figure


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send. `@N@`, `@TOKEN@`, `@SEQ@` are filled in anew for each request."""

    port: int
    head: str  # request line and headers, without Content-Length
    body: str
    count: int
    connections: int
    per_s: float | None = None  # None: each connection asks again once it is answered
    tokens: tuple[str, ...] = ("",)
    first: int = 0  # number of the first request


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came back."""

    seconds: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    rate: float  # answers a second

    @property
    def only_good(self) -> bool:
        """Say whether every answer was a 2xx."""
        return all(status.startswith("2") for status in self.statuses)


def send(plan: Plan) -> Measured:
    """Carry out a plan in a process of its own. Raises: RuntimeError unless all went well."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-load-") as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(asdict(plan)), "utf-8")
        answer = subprocess.run(
            [sys.executable, "-m", "bench.load", str(path)],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    measured = Measured(**json.loads(answer.stdout))
    if not measured.only_good:
        raise RuntimeError(f"the server should answer 2xx, found {measured.statuses}")
    return measured


# ── the process ─────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Tally:
    """Requests still to be sent, and what became of the others."""

    requests: deque[bytes]
    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0
    idle: deque[_Connection] = field(default_factory=deque)
    late: deque[tuple[bytes, float]] = field(default_factory=deque)

    def answered(self, connection: _Connection, status: str, since: float) -> None:
        self.latencies_s.append(time.perf_counter() - since)
        self.statuses[status] += 1
        self.left -= 1
        if self.left == 0:
            self.done.set()
        self.next(connection)

    def next(self, connection: _Connection) -> None:
        if self.late:
            connection.ask(*self.late.popleft())
        elif self.requests and not self.paced:
            connection.ask(self.requests.popleft(), time.perf_counter())
        else:
            self.idle.append(connection)

    paced: bool = False


class _Connection(asyncio.Protocol):
    """One kept connection with at most one question under way."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._since = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, since: float) -> None:
        assert self._transport is not None
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < _length(head):
            return
        self._buffer = b""
        self._tally.answered(self, head[9:12].decode(), self._since)

    def connection_lost(self, _: Exception | None) -> None:
        if self._tally.left:
            self._tally.statuses["closed"] += 1
            self._tally.done.set()


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def _carry_out(plan: Plan) -> Measured:
    loop = asyncio.get_running_loop()
    tally = _Tally(_requests(plan), left=plan.count, paced=plan.per_s is not None)
    connections = [
        (await loop.create_connection(lambda: _Connection(tally), "127.0.0.1", plan.port))[1]
        for _ in range(plan.connections)
    ]
    begin = time.perf_counter()
    for connection in connections:
        tally.next(connection)
    if plan.per_s is not None:
        await _pace(tally, plan.per_s, begin)
    async with asyncio.timeout(PATIENCE_S):
        await tally.done.wait()
    return _measured(tally, time.perf_counter() - begin)


async def _pace(tally: _Tally, per_s: float, begin: float) -> None:
    """Ask at fixed moments; a request that waits for a connection is late from its moment on."""
    number = 0
    while tally.requests:
        due = begin + number / per_s
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
            continue
        number += 1
        request = tally.requests.popleft()
        if tally.idle:
            tally.idle.popleft().ask(request, due)
        else:
            tally.late.append((request, due))


def _requests(plan: Plan) -> deque[bytes]:
    kinds = len(plan.tokens)
    same = plan.body.encode() if "@" not in plan.body else None
    made: deque[bytes] = deque()
    for number in range(plan.first, plan.first + plan.count):
        fill = (f"{number:032x}", plan.tokens[number % kinds], str(number // kinds + 1))
        body = same if same is not None else _filled(plan.body, fill)
        head = _filled(plan.head, fill) + b"Content-Length: %d\r\n\r\n" % len(body)
        made.append(head + body)
    return made


def _filled(text: str, fill: tuple[str, str, str]) -> bytes:
    for name, value in zip(("@N@", "@TOKEN@", "@SEQ@"), fill, strict=True):
        text = text.replace(name, value)
    return text.encode()


def _measured(tally: _Tally, seconds: float) -> Measured:
    times = sorted(1000 * latency for latency in tally.latencies_s) or [0.0]
    return Measured(
        seconds=seconds,
        statuses=dict(tally.statuses),
        p50_ms=times[len(times) // 2],
        p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))],
        max_ms=times[-1],
        rate=len(tally.latencies_s) / seconds,
    )


def main() -> int:
    """Carry out the plan in the file that is named."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    print(json.dumps(asdict(asyncio.run(_carry_out(plan)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
