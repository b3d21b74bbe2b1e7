"""What a million finished runs in the database cost those that are alive."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.client_doors import door, gets, posts
from bench.curve import draw
from bench.full import fill
from bench.intake import app, beats, deliveries
from bench.load import send
from bench.result import Result, at_most
from bench.seed import NOWHERE, opened
from bench.served import MIB, cpu_s, ours, settled
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tally import open_runs

SIZES = (0, 1_000, 100_000, 1_000_000)
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "scale.svg"
ASKED = 60  # of each kind, one client: the p50 of so many is steady
AGENTS = 200
LIVE, LIVE_AGENTS, IDLE_S = 10_000, 10_000, 30.0
CANCELLED = 2_000
_CALLS = 50


def scale() -> list[Result]:
    """Ask every door and the stores at each size: the largest beside a thousand, as p50s."""
    curves: dict[str, list[float]] = {}
    for size in SIZES:
        for name, value in _at(size).items():
            curves.setdefault(name, []).append(value)
    draw(PICTURE, title="p50 over finished runs in the database", sizes=SIZES, curves=curves)
    return [
        at_most(
            f"scale_{name}",
            f"x {SIZES[1]:,}",
            [curve[-1] / curve[1]],  # a list of nothing is no list: beside a thousand
            2,  # the indexes are deeper and the cache is colder: no more than that
            ", ".join(f"{n:,}: {v:.2f} ms" for n, v in zip(SIZES, curve, strict=True)),
        )
        for name, curve in curves.items()
    ]


def _at(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-scale-") as folder:
        state = Path(folder) / "state"
        tokens = fill(state, finished=size, instances=AGENTS)
        found = _stores(state)
        with ours(state, settings=app(Path(folder))) as server:
            settled(server)
            asked = {
                "list": gets(door("GET /api/v1/runs", server), ASKED, 1),
                "dashboard": gets(door("GET /", server), ASKED, 1),
                "accept": posts(door("POST /api/v1/runs", server), 0, ASKED, 1),
                "webhook": deliveries("/webhooks/github", server.port, 0),
                "heartbeat": beats(server.port, tokens, 0, ASKED, None),
            }
            plans = {name: replace(p, count=ASKED, connections=1) for name, p in asked.items()}
            return {name: send(plan).p50_ms for name, plan in plans.items()} | found


def _stores(state: Path) -> dict[str, float]:
    """Time what the loops ask of the database."""
    now, lease = datetime.now(UTC), timedelta(minutes=1)
    with opened(state) as database:
        runs, fleet = RunStore(database), FleetStore(database)

        def claim() -> None:
            for one in runs.claim(limit=24, lease=lease, now=now):
                runs.release(one)

        return {
            "claim": _p50_ms(claim),
            "sweep": _p50_ms(lambda: fleet.account(NOWHERE, (), ())),
            "tally": _p50_ms(lambda: open_runs(database)),
        }


def _p50_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_CALLS):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def full() -> list[Result]:
    """Idle with 10,000 live and 1,000,000 finished runs; then the end of 2,000 asked for."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-full-") as folder:
        state = Path(folder) / "state"
        fill(state, finished=SIZES[-1], live=LIVE, instances=LIVE_AGENTS)
        with ours(state) as server:
            process = settled(server)
            before = cpu_s(process)
            threading.Event().wait(IDLE_S)
            used, memory = cpu_s(process) - before, process.memory_info().rss
        note = f"{LIVE:,} live and {SIZES[-1]:,} finished runs"
        with tempfile.TemporaryDirectory(prefix="cynthus-bench-cancel-") as other:
            cancelled = _cancelled(Path(other) / "state")
    return [
        at_most("full_rss_mib", "MiB", [memory / MIB], 250, note),
        at_most("full_cpu_pct", "%", [100 * used / IDLE_S], 5, note),
        at_most("cancel_2000_ms", "ms", cancelled, 1000, f"{CANCELLED:,} live runs, one request"),
    ]


def _cancelled(state: Path) -> list[float]:
    """Time the request that asks for the end of 2,000 runs."""
    fill(state, finished=0, live=CANCELLED)
    with ours(state) as server:
        settled(server)
        plan = gets(door("POST /api/v1/runs/cancel", server), 1, 1)
        return [send(plan).max_ms]
