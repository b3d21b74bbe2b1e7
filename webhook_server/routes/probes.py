"""Say whether the server lives, whether it can work, how it fares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from cynthus.errors import CynthusError
from cynthus.version import own_version
from webhook_server import metrics
from webhook_server.metrics import METERS, Sample
from webhook_server.routes.access import require_operator
from webhook_server.routes.answers import Door, HttpRefusal, Receive, Scope, Send, answer
from webhook_server.routes.parts import Parts
from webhook_server.stores import schema
from webhook_server.stores.queues import measured

READY_FOR = timedelta(seconds=1)  # a probe writes to the disk: strangers must not make it busy
ANSWER_LIMIT_S = 5.0  # probes of load balancers wait as long, or less, and take silence for death
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_METRICS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")

Gauges = Callable[[], Iterable[Sample]]


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the process serves; it tells strangers nothing else."""
    del scope, receive
    await answer(send, 200, b"ok\n", [_TEXT])


def readyz(parts: Parts) -> Door:
    """Return the door that answers 200 while the database takes writes and every loop moves.

    A database that is silent is told as well: a second question waits for the first one's thread.
    """
    last: list[tuple[datetime, str]] = []
    asking: list[asyncio.Task[str]] = []

    async def found() -> str:
        if not asking:
            asking.append(asyncio.create_task(asyncio.to_thread(_fault, parts)))
        [task] = asking
        done, _ = await asyncio.wait([task], timeout=ANSWER_LIMIT_S)
        if not done:
            return "the database does not answer"
        asking[:] = []
        return task.result()

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        if not last or parts.now() - last[0][0] >= READY_FOR:
            last[:] = [(parts.now(), await found())]
        fault = last[0][1]
        status, text = (503, f"not ready: {fault}\n") if fault else (200, "ready\n")
        await answer(send, status, text.encode(), [_TEXT])

    return door


def _fault(parts: Parts) -> str:
    try:
        parts.database.set_state("ready_at", parts.now().isoformat())
    except CynthusError:
        return "the database takes no writes"
    stopped = parts.alive()
    return f"stopped: {', '.join(stopped)}" if stopped else ""


def metrics_door(parts: Parts, gauges: Gauges) -> Door:
    """Return the door that answers Prometheus; for the operator only."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        text = await asyncio.to_thread(_metrics, parts, scope, gauges)
        await answer(send, 200, text.encode(), [_METRICS])

    return door


def _metrics(parts: Parts, scope: Scope, gauges: Gauges) -> str:
    require_operator(parts, scope)
    try:
        measured_now = measured(parts.database, parts.providers, parts.now())
        counted = [*_counted(parts), *METERS.samples(), *gauges()]
        return metrics.spell([*_build(), *measured_now, *counted])
    except CynthusError as error:
        raise HttpRefusal(503, str(error), retry_after_s=5) from error


def _counted(parts: Parts) -> Iterable[Sample]:
    for (door, status), count in sorted(parts.counters.requests().items()):
        yield metrics.REQUESTS.name, {"door": door, "status": str(status)}, count
    for name, count in sorted(parts.counters.named().items()):
        yield f"cynthus_{name}", {}, count


def _build() -> Iterable[Sample]:
    yield metrics.BUILD_INFO.name, {"version": own_version(), "schema": schema.HEAD}, 1
