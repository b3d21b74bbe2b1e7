"""The two hot doors on PostgreSQL, which the doors of a larger server stand on."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.intake import AGENTS, BEATING, BEATS_PER_S, CLOSED_BEATS, PACED_S, app, beats, deliveries
from bench.load import send
from bench.result import Result, told
from bench.seed import seed
from bench.served import bare, ours, settled
from demo.processes import free_port

ROUNDS = 3
_PROGRAMS = Path("/usr/lib/postgresql")  # where Debian's packages put each version


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Give the URL of an empty database on a server of its own, durable as PostgreSQL is by itself.

    Raises: RuntimeError where PostgreSQL is not installed.
    """
    found = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError(f"{_PROGRAMS}: should hold PostgreSQL. apt-get install postgresql")
    control, port = found[-1].with_name("pg_ctl"), free_port()
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-postgres-") as folder:
        data, log = f"{folder}/data", f"{folder}/log"
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        _run(folder, found[-1], "-D", data, "-A", "trust")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder}"
        _run(folder, control, "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run(folder, control, "-D", data, "-m", "immediate", "stop")


def _run(folder: str, *words: object) -> None:
    rights = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [*rights, *(str(word) for word in words)]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def webhooks() -> list[Result]:
    """Signed deliveries, 32 clients, beside the bare handler, which writes to SQLite."""
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-app-") as folder,
        postgres() as url,
        ours(settings={**app(Path(folder)), "CYNTHUS_DATABASE_URL": url}) as server,
        bare("webhooks") as other,
    ):
        settled(server)
        pairs = [
            (
                send(deliveries("/webhooks/github", server.port, turn)),
                send(deliveries("/", other.port, turn)).rate,
            )
            for turn in range(ROUNDS)
        ]
    base = statistics.median(rate for _, rate in pairs)
    p99_ms = statistics.median(we.p99_ms for we, _ in pairs)
    note = f"p99 {p99_ms:.0f} ms; bare ASGI with SQLite {base:.0f}/s"
    return [told("webhooks_postgres_per_s", "/s", [we.rate for we, _ in pairs], note)]


def heartbeats() -> list[Result]:
    """Heartbeats with a sample each, from 10,000 agents: most, and p99 at their pace."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-seed-") as folder, postgres() as url:
        state = Path(folder) / "state"
        tokens = seed(state, runs=1, instances_of_first=AGENTS, url=url)[:BEATING]
        with ours(state, settings={"CYNTHUS_DATABASE_URL": url}) as server:
            settled(server)
            send(beats(server.port, tokens, 0, BEATING, None))  # their first
            paced = int(BEATS_PER_S * PACED_S)
            steady = send(beats(server.port, tokens, BEATING, paced, BEATS_PER_S))
            first = BEATING + paced
            most = [
                send(beats(server.port, tokens, first + turn * CLOSED_BEATS, CLOSED_BEATS, None))
                for turn in range(ROUNDS)
            ]
    note = f"p99 at {BEATS_PER_S:.0f}/s: {steady.p99_ms:.0f} ms; {AGENTS} agents"
    return [told("heartbeats_postgres_per_s", "/s", [m.rate for m in most], note)]
