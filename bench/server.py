"""What the server costs and how fast it answers, each figure beside its bare counterpart."""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.image import bench_image
from bench.result import Result, at_most
from cynthus.client import Client
from cynthus.wire import RunRequest
from demo.processes import Programs
from demo.server import Server

SAMPLES = 5  # each costs a server start or a run; the median of five is steady enough here
IDLE_S = 20.0  # long enough that the loops' ordinary looks are all in it
MIB = 1 << 20


@contextlib.contextmanager
def _server(**settings: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-") as folder:
        programs = Programs(Path(folder) / "log")
        server = Server(programs, Path(folder) / "state", settings=settings)
        try:
            yield server
        finally:
            programs.stop()


def start() -> list[Result]:
    """Empty folder → first healthy answer, migrations included; then again."""
    first, again = [], []
    for _ in range(SAMPLES):
        with _server() as server:
            first.append(_timed(server.start))
            _stop(server)
            again.append(_timed(server.start))
    return [
        at_most("serve_start_s", "s", first, 0.8, "empty state folder"),
        at_most("serve_again_s", "s", again, 0.6, "the same folder"),
    ]


def idle() -> list[Result]:
    """Memory and CPU of a server with nothing to do."""
    with _server() as server:
        process = psutil.Process(server.start().process.pid)
        threading.Event().wait(2)  # start-up's own work is over
        before = sum(process.cpu_times()[:2])
        threading.Event().wait(IDLE_S)
        used = sum(process.cpu_times()[:2]) - before
        memory = process.memory_info().rss / MIB
    return [
        at_most("idle_rss_mib", "MiB", [memory], 80, "one process"),
        at_most("idle_cpu_pct", "%", [100 * used / IDLE_S], 0.3, f"over {IDLE_S:.0f} s"),
    ]


def accept() -> list[Result]:
    """Run request → durably accepted: p50 alone, max in a burst of 100."""
    with _server() as server:
        server.start()
        client = Client(server.url, server.api_token)
        single = [1000 * _timed(lambda n=n: client.submit(_request(n))) for n in range(200)]
        begin_at = 1000
        with ThreadPoolExecutor(100) as pool:
            burst = list(
                pool.map(
                    lambda n: 1000 * _timed(lambda: client.submit(_request(begin_at + n))),
                    range(100),
                )
            )
    note = "Python client on the same two cores, connection set-up included"
    return [
        at_most("accept_ms", "ms", single, 20, note),
        at_most("accept_burst_ms", "ms", [max(burst)], 1000, "100 at once; " + note),
    ]


def lists() -> list[Result]:
    """List of runs with 100 in it, p50."""
    with _server() as server:
        server.start()
        client = Client(server.url, server.api_token)
        for number in range(100):
            client.submit(_request(number))
        times = [1000 * _timed(lambda: client.list(limit=50)) for _ in range(200)]
    return [at_most("list_ms", "ms", times, 2, "Python client, connection set-up included")]


def run_overhead() -> list[Result]:
    """Submit → finished, minus the bare `docker run` of the same image."""
    image = bench_image()
    bare_words = ["/usr/bin/docker", "run", "--rm", "--network", "none", image, "true"]
    with _server() as server:
        server.start()
        client = Client(server.url, server.api_token)
        ours, bare, endings = [], [], []
        for number in range(SAMPLES):
            bare.append(_timed(lambda: subprocess.run(bare_words, check=True)))
            ours.append(_timed(lambda n=number: _whole_run(client, _request(n, image))))
            endings.append(_exit_to_final(client))
    base = statistics.median(bare)
    return [
        at_most("run_overhead_s", "s", [s - base for s in ours], 1.0, f"docker run {base:.2f} s"),
        at_most("exit_to_final_s", "s", endings, 0.25, "the agent's clock and the server's: one"),
    ]


def agent_cost() -> list[Result]:
    """CPU and memory of the agent beside a container that prints and computes for 20 s."""
    image = bench_image()
    command = "for i in $(seq 20); do echo line $i; sleep 1; done"
    with _server() as server:
        server.start()
        client = Client(server.url, server.api_token)
        run_id = client.submit(_request(1, image, command)).run_id
        agent = _agent_of(server)
        threading.Event().wait(3)
        before, begin = sum(agent.cpu_times()[:2]), time.perf_counter()
        threading.Event().wait(12)
        share = 100 * (sum(agent.cpu_times()[:2]) - before) / (time.perf_counter() - begin)
        memory = agent.memory_info().rss / MIB
        client.cancel(run_id)
        _wait_finished(client, run_id)
    return [
        at_most("agent_cpu_pct", "%", [share], 1.0, "one line and one sample a second or less"),
        at_most("agent_rss_mib", "MiB", [memory], 45, "Docker engine, no GPU"),
    ]


def _request(number: int, image: str | None = None, command: str = "true") -> RunRequest:
    sha = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    return RunRequest(
        repository_id=0,
        repository="local/bench",
        commit_sha=sha,
        ref="",
        event="local",
        trigger=f"local/{number}",
        spec_path="cynthus.yaml",
        spec_text=f"version: 1\nname: bench\nrun: {command!r}\n",
        image=image,
        failure=None if image else "measured without an image",
    )


def _whole_run(client: Client, request: RunRequest) -> None:
    _wait_finished(client, client.submit(request).run_id)


def _wait_finished(client: Client, run_id: str) -> None:
    for event in client.follow(run_id):
        if event.kind == "state" and event.body.get("state") == "finished":
            return


def _exit_to_final(client: Client) -> float:
    """Return seconds from the command's end to `finished` of the newest run."""
    newest = client.list(limit=1)[0]
    states = [event for event in client.events(newest["id"]) if event.kind == "state"]
    at = {str(event.body["state"]): event.at for event in states}
    return (at["finished"] - at["collecting"]).total_seconds()


def _agent_of(server: Server) -> psutil.Process:
    assert server.program is not None
    for _ in range(200):
        for process in psutil.Process(server.program.process.pid).children(recursive=True):
            if "runner_images.agent" in " ".join(process.cmdline()):
                return process
        threading.Event().wait(0.05)
    raise RuntimeError(f"no agent appeared; pid of the bench {os.getpid()}")


def _stop(server: Server) -> None:
    assert server.program is not None
    server.program.stop()


def _timed(work: object) -> float:
    begin = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begin
