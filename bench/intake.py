"""How fast the two hot doors take what comes: GitHub's deliveries, the agents' heartbeats."""

from __future__ import annotations

import hmac
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.bare import SECRET
from bench.load import Plan, send
from bench.result import Result, at_least, at_most
from bench.seed import seed
from bench.served import bare, cpu_s, ours, settled
from demo.processes import wait_until
from demo.server import Server

ROUNDS = 5  # each measures both sides, in turn
CLIENTS = 32
DELIVERIES = 2000  # of one round: a quarter of a second for the bare side, enough for a p99
AGENTS = 10_000  # rows in the database
BEATS_PER_S = AGENTS / 10  # one every 10 s each
# The beats come from a part of the agents, each oftener: all of them would have to beat once before
# the clock starts, since the first beat after the server's start is dearer than all later ones.
BEATING = 2_000
PACED_S = 8  # of the paced beats: enough for 80 beats above the p99
CLOSED_BEATS = 3000


def webhooks() -> list[Result]:
    """Signed deliveries, verified, committed with fsync, 32 clients, beside a bare ASGI handler.

    The server handles what it takes once the burst is over, at the latest after two seconds: a
    round is shorter, so that its figure is of the answers alone.
    """
    rates, p99s, notes = [], [], []
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-app-") as folder,
        ours(settings=app(Path(folder))) as server,
        bare("webhooks") as other,
    ):
        settled(server)
        for turn in range(ROUNDS):
            we = send(deliveries("/webhooks/github", server.port, turn))
            handled(server)  # else the bare side would share its cores with that
            they = send(deliveries("/", other.port, turn))
            rates.append(we.rate / they.rate)
            p99s.append(we.p99_ms / they.p99_ms)
            notes.append((we.rate, they.rate, we.p99_ms, they.p99_ms))
    ours_rate, bare_rate, ours_p99, bare_p99 = (
        statistics.median(values) for values in zip(*notes, strict=True)
    )
    return [
        at_least(
            "webhook_ack_ratio",
            "x bare",
            rates,
            0.9,
            f"bare ASGI {bare_rate:.0f}/s, ours {ours_rate:.0f}/s",
        ),
        at_most(
            "webhook_p99_ms",
            "x bare",
            p99s,
            1.3,
            f"bare ASGI {bare_p99:.1f} ms, ours {ours_p99:.1f} ms",
        ),
    ]


def handled(server: Server) -> None:
    """Return once nothing that was delivered waits to be handled."""
    headers = {"Authorization": f"Bearer {server.api_token}"}
    asked = urllib.request.Request(f"{server.url}/metrics", headers=headers)

    def is_quiet() -> bool:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return b"\ncynthus_deliveries_due 0\n" in answer.read()

    wait_until(is_quiet, "the deliveries' end", server.program)


def app(folder: Path) -> Mapping[str, str]:
    """Return the settings of a GitHub App whose GitHub does not answer: none is asked for these."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = folder / "app.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    return {
        "CYNTHUS_WEBHOOK_SECRET": SECRET,
        "CYNTHUS_GITHUB_API_URL": "http://127.0.0.1:9/api",
        "CYNTHUS_GITHUB_APP_ID": "1",
        "CYNTHUS_GITHUB_PRIVATE_KEY": str(path),
        "CYNTHUS_ALLOWED": "acme",
    }


def deliveries(path: str, port: int, turn: int, body: str | None = None) -> Plan:
    """Return signed deliveries, each with an id of its own."""
    body = body or _push()
    signature = hmac.digest(SECRET.encode(), body.encode(), "sha256").hex()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: GitHub-Hookshot/1\r\n"
        "Content-Type: application/json\r\nX-GitHub-Event: push\r\n"
        f"X-GitHub-Delivery: @N@\r\nX-Hub-Signature-256: sha256={signature}\r\n"
    )
    return Plan(
        port=port,
        head=head,
        body=body,
        count=DELIVERIES,
        connections=CLIENTS,
        first=turn * DELIVERIES,
    )


def _push() -> str:
    """Return a push of a tag, 8 KB as GitHub's are: stored, then found to ask for nothing."""
    commit = {"id": "1" * 40, "message": "Train longer " * 20, "added": [], "modified": ["a.py"]}
    return json.dumps(
        {
            "ref": "refs/tags/v1",
            "before": "0" * 40,
            "after": "1" * 40,
            "created": True,
            "deleted": False,
            "repository": {
                "id": 1,
                "full_name": "acme/train",
                "default_branch": "main",
                "owner": {"id": 2, "login": "acme"},
                "description": "x" * 200,
            },
            "commits": [commit] * 18,
            "installation": {"id": 3},
        }
    )


def heartbeats() -> list[Result]:
    """Durable heartbeats, each with a sample, from 10,000 agents: most; then p99 at their pace."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-seed-") as folder:
        state = Path(folder) / "state"
        tokens = seed(state, runs=1, instances_of_first=AGENTS)[:BEATING]
        with ours(state) as server, bare("webhooks") as other:
            process = settled(server)
            send(beats(server.port, tokens, 0, BEATING, None))  # their first
            paced = int(BEATS_PER_S * PACED_S)
            before = cpu_s(process)
            steady = send(beats(server.port, tokens, BEATING, paced, BEATS_PER_S))
            share = 100 * (cpu_s(process) - before) / steady.seconds
            first = BEATING + paced
            most = [
                send(beats(server.port, tokens, first + turn * CLOSED_BEATS, CLOSED_BEATS, None))
                for turn in range(3)
            ]
            body = '{"seq": 1, "state": "running", "sample": "' + "x" * 300 + '"}'
            base = send(deliveries("/", other.port, 0, body)).rate
    pace = f"{AGENTS} agents, one beat each 10 s"
    return [
        at_least(
            "heartbeats_per_s",
            "/s",
            [m.rate for m in most],
            1000,
            f"bare ASGI, verify + insert: {base:.0f}/s",
        ),
        at_most("heartbeat_p99_ms", "ms", [steady.p99_ms], 20, pace),
        at_most("heartbeat_cpu_pct", "%", [share], 55, f"of a core; {pace}"),
    ]


def beats(port: int, tokens: tuple[str, ...], first: int, count: int, per_s: float | None) -> Plan:
    """Return heartbeats with a sample each, of the agents in turn."""
    sample = {
        "cpu_pct": 96.5,
        "memory_bytes": 1 << 30,
        "memory_limit_bytes": 1 << 34,
        "disk_bytes": 1 << 20,
        "gpus": [{"index": 0, "util_pct": 97, "memory_bytes": 1 << 34}],
    }
    now = datetime.now(UTC).isoformat()
    beat = {
        "seq": "@SEQ@",
        "sent_at": now,
        "state": "running",
        "events": [{"at": now, "kind": "sample", "body": sample}],
        "exit": None,
        "outputs": None,
        "preempted": False,
    }
    head = (
        f"POST /agent/v1/heartbeat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Authorization: Bearer @TOKEN@\r\nContent-Type: application/json\r\n"
    )
    return Plan(
        port=port,
        head=head,
        body=json.dumps(beat).replace('"@SEQ@"', "@SEQ@"),
        count=count,
        connections=CLIENTS,
        per_s=per_s,
        tokens=tokens,
        first=first,
    )
