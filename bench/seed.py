"""Put runs and instances into a server's database before it starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, insert

from cynthus.specfile import parse
from webhook_server.auth.tokens import sha256_hex
from webhook_server.runs.model import RunDraft, RunKey
from webhook_server.stores.database import Database
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import instances

SPEC_TEXT = "version: 1\nname: bench\nrun: python train.py\n"
# No provider of this name exists: what the loops do for these instances is nothing.
NOWHERE = "bench"


def _now() -> datetime:
    return datetime.now(UTC)


def seed(state: Path, *, runs: int, instances_of_first: int = 0, url: str = "") -> tuple[str, ...]:
    """Make unfinished runs, and instances whose agents run; return the agents' tokens.

    `url`: of the database, where it is not the file in `state`.
    """
    state.mkdir(parents=True)
    with opened(state, url) as database:
        store = RunStore(database)
        for number in range(runs):
            store.accept(_draft(number), arrived=None, token_id=None, now=_now())
        tokens = tuple(f"cya_{number:043d}" for number in range(instances_of_first))
        if tokens:
            database.write(lambda connection: _insert(connection, tokens))
    return tokens


@contextlib.contextmanager
def opened(state: Path, url: str = "") -> Iterator[Database]:
    """Give a server's database while the server is not there."""
    database = Database(url or f"sqlite:///{state / 'cynthus.db'}", now=_now)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def _draft(number: int) -> RunDraft:
    return RunDraft(
        id=f"r{number:011d}",
        key=RunKey(
            repository_id=1 + number % 10,
            commit_sha=f"{number:040x}",
            spec_path="cynthus.yaml",
            trigger="push",
        ),
        repository=f"acme/train-{number % 10}",
        ref="refs/heads/main",
        event="push",
        default_branch="main",
        pull_request=None,
        workflow_run_url=None,
        spec=parse(SPEC_TEXT.encode(), "cynthus.yaml"),
        spec_text=SPEC_TEXT,
        spec_faults=(),
        wants_release=False,
    )


def _insert(connection: Connection, tokens: tuple[str, ...]) -> None:
    now = _now()
    rows = [
        {
            "name": f"cynthus-bench-{number}",
            "run_id": _draft(0).id,
            "attempt": 1,
            "provider": NOWHERE,
            "repository_id": 1,
            "ordered_at": now,
            "nonce": f"{number:032x}",
            "token_sha256": sha256_hex(token),
            "enrolled_at": now,
            "heartbeat_at": now,
            "agent": {"state": "running", "engine": "docker"},
        }
        for number, token in enumerate(tokens)
    ]
    connection.execute(insert(instances), rows)
