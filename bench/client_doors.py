"""How fast run requests are accepted durably, or runs are listed, beside bare programs."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.command_line import SPEC
from bench.load import Measured, Plan, send
from bench.result import Result, at_least, at_most
from bench.seed import seed
from bench.served import bare, ours, settled
from demo.server import Server

ROUNDS = 5  # each measures both sides, in turn
REQUESTS = 40  # of one round, one after another
BURST = 100
LISTS = 100
RUNNING = 100

# Each has a commit of its own. It tells of a failed build, so that nothing is started for it:
# the loop ends the run, as it does beside every real request.
_REQUEST = json.dumps(
    {
        "repository_id": 0,
        "repository": "local/bench",
        "commit_sha": "00000000@N@",
        "ref": "",
        "event": "local",
        "trigger": "local/@N@",
        "spec_path": "cynthus.yaml",
        "spec_text": SPEC,
        "image": None,
        "failure": "measured without an image",
    }
)


def accept() -> list[Result]:
    """Run request → durably accepted: p50 of one client, max of a burst of 100."""
    single, beside, burst, beside_burst = [], [], [], []
    with ours() as server, bare("insert") as other:
        settled(server)
        asked = door("POST /api/v1/runs", server)
        bare_door = Door("POST /insert", other.port)
        for turn in range(ROUNDS):
            first = turn * 1000
            single.append(send(posts(asked, first, REQUESTS, 1)))
            beside.append(send(posts(bare_door, first, REQUESTS, 1)))
            burst.append(send(posts(asked, first + 500, BURST, BURST)))
            beside_burst.append(send(posts(bare_door, first + 500, BURST, BURST)))
    base = _p50(beside)
    most = statistics.median(m.max_ms for m in beside_burst)
    note = f"bare FastAPI, one insert + fsync: {base:.2f} ms, ours {_p50(single):.2f} ms"
    return [
        at_most("accept_ms", "x bare", [m.p50_ms / base for m in single], 5, note),
        at_most("accept_burst_ms", "ms", [m.max_ms for m in burst], 100, f"bare {most:.0f} ms"),
    ]


@dataclass(frozen=True)
class Door:
    """Where to ask, and with which token."""

    words: str
    port: int
    token: str = ""

    @property
    def head(self) -> str:
        """Return the request line and the headers that all requests share."""
        return (
            f"{self.words} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\n"
        )


def door(words: str, server: Server) -> Door:
    """Return a door of ours, for its operator."""
    return Door(words, server.port, server.api_token)


def posts(where: Door, first: int, count: int, connections: int) -> Plan:
    """Return run requests, each for a run of its own."""
    return Plan(
        port=where.port,
        head=where.head + "Content-Type: application/json\r\n",
        body=_REQUEST,
        count=count,
        connections=connections,
        first=first,
    )


def lists() -> list[Result]:
    """List of runs with 100 unfinished ones: p50 of one client; requests/s of eight."""
    single, rate, beside = [], [], []
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-seed-") as folder:
        state = Path(folder) / "state"
        seed(state, runs=RUNNING)
        with ours(state) as server, bare("list") as other:
            settled(server)
            asked = door(f"GET /api/v1/runs?limit={RUNNING}", server)
            bare_door = Door("GET /", other.port)
            for _ in range(ROUNDS):
                single.append(send(gets(asked, LISTS, 1)))
                rate.append(send(gets(asked, 20 * LISTS, 8)))
                beside.append(send(gets(bare_door, 20 * LISTS, 8)))
    null = statistics.median(m.rate for m in beside)
    return [
        at_most("list_ms", "ms", [m.p50_ms for m in single], 2, f"{RUNNING} runs in the list"),
        at_least("lists_per_s", "/s", [m.rate for m in rate], 2000, f"bare, no rows: {null:.0f}/s"),
    ]


def gets(where: Door, count: int, connections: int) -> Plan:
    """Return the same question many times."""
    return Plan(port=where.port, head=where.head, body="", count=count, connections=connections)


def _p50(measured: list[Measured]) -> float:
    return statistics.median(m.p50_ms for m in measured)
