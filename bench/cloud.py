"""How fast instances of a simulated Google Cloud are ordered, at once or in a lost one's place."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.result import Result, at_most
from bench.served import cpu_s, settled
from cynthus.client import Client
from cynthus.codec import encode
from cynthus.wire import AgentState, Enrolment, Exit, Facts, Heartbeat, RunRequest
from demo.cloud import PROJECT, Cloud, google_cloud
from demo.processes import Programs
from demo.server import Server

FLEET = 200  # a peer on a real cloud takes 3 to 4 minutes for as many
REPLACED = 5
LIMIT_S = 120.0
LOOK_S = 0.01  # how exactly an insert is timed
AT_A_TIME = 16  # clients that submit
IMAGE = f"us-docker.pkg.dev/{PROJECT}/bench/train@sha256:{'0' * 64}"
SPEC = (
    "version: 1\nname: bench\nrun: python train.py\n"
    "resources:\n  gpu: l4\n  places: [us-central1]\n  spot: true\n"
)
# What is left is our own part and the simulator's work: a real cloud's waiting is off.
NO_DELAYS = ("provisioning_s", "staging_s", "stopping_s", "grace_s", "preempt_s")


@dataclass
class _Ground:
    """A server that lends from a simulated cloud without delays."""

    server: Server
    process: psutil.Process
    cloud: Cloud
    client: Client
    exchanges: Path
    read: int = 0  # bytes of the simulator's log
    inserts: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    def look(self) -> None:
        """Count what the simulator was asked since the last look."""
        with self.exchanges.open("rb") as log:
            log.seek(self.read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # half written
                self.read += len(line)
                self.asked[line[:80].decode().partition('": "')[2].partition('"')[0]] += 1
        self.inserts = self.asked["compute.instances.insert"]

    def wait_for_inserts(self, number: int) -> None:
        """Return once so many inserts were answered."""
        tick = threading.Event()
        end_at = time.monotonic() + LIMIT_S
        while self.inserts < number:
            if time.monotonic() > end_at:
                raise RuntimeError(f"{number} inserts should come, found {self.inserts}")
            tick.wait(LOOK_S)
            self.look()


@contextlib.contextmanager
def _lending() -> Iterator[_Ground]:
    """Give the ground, its lists of machines read: the first run of a day reads them for all."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-cloud-") as own:
        folder = Path(own)
        programs = Programs(folder / "log")
        try:
            cloud = google_cloud(programs, folder, machines="none", agent_image=IMAGE)
            cloud.control("POST", "settings", dict.fromkeys(NO_DELAYS, 0))
            server = Server(programs, folder / "state", settings=cloud.settings)
            process = settled(server)
            ground = _Ground(
                server=server,
                process=process,
                cloud=cloud,
                client=Client(server.url, server.api_token),
                exchanges=folder / "gcp-exchanges.jsonl",
            )
            ground.client.submit(_request("first"))
            ground.wait_for_inserts(1)
            yield ground
        finally:
            programs.stop()


def _request(trigger: str) -> RunRequest:
    return RunRequest(
        repository_id=0,
        repository="local/bench",
        commit_sha="0" * 40,
        ref="",
        event="local",
        trigger=f"local/{trigger}",
        spec_path="cynthus.yaml",
        spec_text=SPEC,
        image=IMAGE,
        failure=None,
    )


def provision() -> list[Result]:
    """200 runs submitted at once → 200 instances exist."""
    with _lending() as ground:
        ground.look()
        asked, spent = ground.asked.copy(), cpu_s(ground.process)
        begin = time.perf_counter()
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda n: ground.client.submit(_request(str(n))), range(FLEET)))
        submitted_s = time.perf_counter() - begin
        ground.wait_for_inserts(FLEET + 1)
        seconds = time.perf_counter() - begin
        spent = cpu_s(ground.process) - spent
        alive = [one for one in ground.cloud.listed("instances") if one["status"] == "RUNNING"]
        if len(alive) != FLEET + 1:
            raise RuntimeError(f"{FLEET + 1} instances should run, found {len(alive)}")
        told = ", ".join(
            f"{count} {verb}" for verb, count in sorted((ground.asked - asked).items())
        )
    note = f"accepted after {submitted_s:.1f} s, server's CPU {spent:.1f} s; asked: {told}"
    return [at_most("provision_200_s", "s", [seconds], 10, note)]


# ── a replacement ───────────────────────────────────────────────────────────────────────────────


def replacement() -> list[Result]:
    """The agent's word that a preempted command has stopped → the next instance is ordered."""
    with _lending() as ground:
        samples = [_replaced_after_s(ground, number) for number in range(REPLACED)]
    return [at_most("replacement_order_s", "s", samples, 2, f"{REPLACED} runs, one after another")]


def _replaced_after_s(ground: _Ground, number: int) -> float:
    ground.look()
    before = ground.inserts
    run_id = ground.client.submit(_request(f"replaced-{number}")).run_id
    ground.wait_for_inserts(before + 1)
    agent = _Agent(ground, run_id)
    agent.beat(AgentState.RUNNING)
    _wait_for_state(ground, run_id, "running")
    agent.beat(AgentState.RUNNING, preempted=True)
    ground.cloud.control("POST", f"instances/{agent.instance}/preempt")
    begin = time.perf_counter()
    stopped = Exit(code=None, signal=15, stopped=True)
    agent.beat(AgentState.DONE, preempted=True, exit=stopped, outputs=())
    ground.wait_for_inserts(before + 2)
    seconds = time.perf_counter() - begin
    causes = [attempt.cause for attempt in ground.client.get(run_id).attempts]
    if causes != ["preempted", None]:
        raise RuntimeError(f"run {run_id}: should be in its second attempt, found {causes}")
    ground.client.cancel(run_id)
    return seconds


def _wait_for_state(ground: _Ground, run_id: str, state: str) -> None:
    for event in ground.client.follow(run_id):
        if event.kind == "state" and event.body.get("state") == state:
            return
    raise RuntimeError(f"run {run_id}: its feed ended without {state!r}")


class _Agent:
    """Plays the agent of an instance, as far as the server sees it."""

    def __init__(self, ground: _Ground, run_id: str) -> None:
        self._url = ground.server.url
        found = [
            i for i in ground.cloud.listed("instances") if i["labels"].get("cynthus-run") == run_id
        ]
        self.instance = str(found[0]["name"])
        facts = Facts(engine="docker", cpu_count=8, memory_bytes=1 << 35, disk_free_bytes=1 << 36)
        enrolment = Enrolment(
            instance=self.instance,
            secret="",
            nonce=secrets.token_hex(16),
            agent_version="0",
            facts=facts,
            identity_token=_identity(ground, found[0]),
        )
        self._token = str(self._call("/agent/v1/enrol", enrolment, "")["token"])
        self._seq = 0

    def beat(self, state: AgentState, **news: Any) -> None:
        self._seq += 1
        beat = Heartbeat(seq=self._seq, sent_at=datetime.now(UTC), state=state, **news)
        self._call("/agent/v1/heartbeat", beat, self._token)

    def _call(self, path: str, message: object, token: str) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = json.dumps(encode(message)).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def _identity(ground: _Ground, instance: dict[str, Any]) -> str:
    """Have the simulated Google sign who the instance is, as its metadata server would."""
    now = int(time.time())
    machine = {
        "project_id": PROJECT,
        "project_number": 1,
        "zone": instance["zone"].rpartition("/")[2],
        "instance_id": instance["id"],
        "instance_name": instance["name"],
        "instance_creation_timestamp": now,
    }
    claims = {
        "iss": "https://accounts.google.com",
        "aud": ground.server.url,
        "sub": "1",
        "iat": now,
        "exp": now + 3600,
        "google": {"compute_engine": machine},
    }
    return str(ground.cloud.control("POST", "identity", {"claims": claims})["value"])
