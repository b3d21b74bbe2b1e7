"""What the server costs while nobody asks anything of it: its start, its memory, its idle CPU."""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.result import Result, at_most
from bench.served import MIB, bare, cpu_s, ours, seconds_until_answer, settled
from demo.processes import Programs, clean_environment, free_port

STARTS = 5  # of each kind, in turn
IDLE_S = 30.0  # six of the loops' longest looks


def start() -> list[Result]:
    """Empty folder → first healthy answer, migrations included; then again; beside bare FastAPI."""
    first: list[float] = []
    again: list[float] = []
    beside: list[float] = []
    for _ in range(STARTS):
        with ours() as server:
            for times in (first, again):
                begin = time.perf_counter()
                server.launch()
                seconds_until_answer(f"{server.url}/healthz")
                times.append(time.perf_counter() - begin)
                assert server.program is not None
                server.program.stop()
        beside.append(_bare_start())
    note = f"bare FastAPI {statistics.median(beside):.2f} s"
    return [
        at_most("serve_start_s", "s", first, 0.8, f"empty folder; {note}"),
        at_most("serve_again_s", "s", again, 0.6, f"the same folder; {note}"),
    ]


def _bare_start() -> float:
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-bare-") as own:
        programs, port = Programs(Path(own) / "log"), free_port()
        words = [sys.executable, "-m", "bench.bare", "insert", str(port), own]
        begin = time.perf_counter()
        programs.start("bare", words, environment=clean_environment())
        try:
            seconds_until_answer(f"http://127.0.0.1:{port}/openapi.json")
            return time.perf_counter() - begin
        finally:
            programs.stop()


def idle() -> list[Result]:
    """Memory and CPU of a server with nothing to do, beside bare FastAPI."""
    import psutil

    with ours() as server, bare("insert") as other:
        beside = psutil.Process(other.program.process.pid)
        process = settled(server)
        threading.Event().wait(2)
        before, beside_before = cpu_s(process), cpu_s(beside)
        threading.Event().wait(IDLE_S)
        used, beside_used = cpu_s(process) - before, cpu_s(beside) - beside_before
        memory, beside_memory = process.memory_info().rss, beside.memory_info().rss
        children = len(process.children())
    return [
        at_most(
            "idle_rss_mib",
            "MiB",
            [memory / MIB],
            80,
            f"bare FastAPI {beside_memory / MIB:.0f} MiB; child processes: {children}",
        ),
        at_most(
            "idle_cpu_pct",
            "%",
            [100 * used / IDLE_S],
            0.3,
            f"over {IDLE_S:.0f} s; bare FastAPI {100 * beside_used / IDLE_S:.2f} %",
        ),
    ]
