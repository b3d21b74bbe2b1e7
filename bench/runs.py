"""What Cynthus adds to a run on this machine, or takes beside it."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

import psutil

from bench.image import bench_image
from bench.result import Result, at_most
from bench.served import MIB, cpu_s, ours, settled
from cynthus.client import Client
from cynthus.wire import RunEvent, RunRequest
from demo.server import Server
from demo.services import docker_engine

SAMPLES = 5  # of each side, in turn, after one of each that is not counted
AGENT_S = 30.0  # three of the agent's samples and heartbeats
# A training run as an agent sees it: some work, a line and a metric each second.
TRAINING = (
    "import time\n"
    "for step in range(120):\n"
    "    end = time.monotonic() + 0.3\n"
    "    while time.monotonic() < end: pass\n"
    "    print(f'::cynthus metric loss={1 / (1 + step)} step={step}', flush=True)\n"
    "    print('step', step, flush=True)\n"
    "    time.sleep(0.7)\n"
)


def run_overhead() -> list[Result]:
    """Submit → finished, minus the bare `docker run` of the same image; and exit → finished."""
    image, docker = bench_image(), _docker()
    words = [docker, "run", "--rm", "--network", "bridge", image, "true"]
    with ours() as server:
        settled(server)
        client = Client(server.url, server.api_token)
        pairs = [_pair(client, words, image, number) for number in range(SAMPLES + 1)][1:]
    base = statistics.median(pair.bare_s for pair in pairs)
    return [
        at_most(
            "run_overhead_s",
            "s",
            [pair.ours_s - pair.bare_s for pair in pairs],
            1.0,
            f"docker run {base:.2f} s, ours {statistics.median(p.ours_s for p in pairs):.2f} s",
        ),
        at_most(
            "exit_to_final_s",
            "s",
            [pair.ending_s for pair in pairs],
            0.25,
            "the engine's word of the container's end → the run's `finished`",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    bare_s: float
    ours_s: float
    ending_s: float


def _pair(client: Client, words: list[str], image: str, number: int) -> _Pair:
    begin = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    bare_s = time.perf_counter() - begin
    begun_at, begin = int(time.time()), time.perf_counter()
    run_id = client.submit(_request(number, image, "true")).run_id
    finished = _finished(client, run_id)
    ours_s = time.perf_counter() - begin
    view = client.get(run_id)
    if view.outcome != "succeeded":
        raise RuntimeError(f"run {run_id}: should succeed, found {view.outcome}: {view.reason}")
    ending_s = finished.at.timestamp() - _died_at(words[0], run_id, begun_at)
    return _Pair(bare_s=bare_s, ours_s=ours_s, ending_s=ending_s)


def _died_at(docker: str, run_id: str, since: int) -> float:
    """Return when the engine saw the run's container end."""
    words = [docker, "events", "--since", str(since - 1), "--until", str(int(time.time()) + 1)]
    words += ["--filter", "event=die", "--filter", f"label=cynthus.run={run_id}"]
    answer = subprocess.run(
        [*words, "--format", "{{.TimeNano}}"], check=True, capture_output=True, text=True
    )
    return int(answer.stdout.split()[-1]) / 1e9


def agent() -> list[Result]:
    """CPU and memory of the agent beside a container that computes, prints, tells metrics."""
    image = bench_image()
    with ours() as server:
        settled(server)
        client = Client(server.url, server.api_token)
        run_id = client.submit(_request(1, image, f"python3 -u - <<'END'\n{TRAINING}END")).run_id
        _wait_for_log(client, run_id)
        process = _agent_of(server)
        before, begin = cpu_s(process), time.perf_counter()
        threading.Event().wait(AGENT_S)
        share = 100 * (cpu_s(process) - before) / (time.perf_counter() - begin)
        memory = process.memory_info().rss / MIB
        client.cancel(run_id)
        _finished(client, run_id)
    return [
        at_most("agent_cpu_pct", "%", [share], 1.0, f"of a core, over {AGENT_S:.0f} s, Docker"),
        at_most("agent_rss_mib", "MiB", [memory], 45, "Docker engine, no GPU"),
    ]


def _request(number: int, image: str, command: str) -> RunRequest:
    sha = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    return RunRequest(
        repository_id=0,
        repository="local/bench",
        commit_sha=sha,
        ref="",
        event="local",
        trigger=f"local/{number}",
        spec_path="cynthus.yaml",
        spec_text="version: 1\nname: bench\nrun: |\n" + _indented(command),
        image=image,
        failure=None,
    )


def _indented(command: str) -> str:
    return "".join(f"  {line}\n" for line in command.splitlines())


def _finished(client: Client, run_id: str) -> RunEvent:
    for event in client.follow(run_id):
        if event.kind == "state" and event.body.get("state") == "finished":
            return event
    raise RuntimeError(f"run {run_id}: its feed ended without `finished`")


def _wait_for_log(client: Client, run_id: str) -> None:
    for event in client.follow(run_id):
        if event.kind == "log":
            return
    raise RuntimeError(f"run {run_id}: ended without a line of log")


def _agent_of(server: Server) -> psutil.Process:
    assert server.program is not None
    for process in psutil.Process(server.program.process.pid).children(recursive=True):
        if "runner_images.agent" in " ".join(process.cmdline()):
            return process
    raise RuntimeError("no agent runs below the server")


def _docker() -> str:
    engine = docker_engine()
    if engine.client is None:
        raise RuntimeError(f"a Docker engine should answer: {engine.why_not}")
    return engine.client
