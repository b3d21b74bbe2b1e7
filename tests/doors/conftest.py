"""A real server on loopback, in this process, so that a test can play the loop beside it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from webhook_server import app
from webhook_server.auth.tokens import enrol_secret
from webhook_server.doors import Doors, open_doors, open_parts
from webhook_server.github_side import GithubSide
from webhook_server.ground import ground, listen
from webhook_server.http_server import http_server
from webhook_server.providers.provider import Provider
from webhook_server.routes.parts import JobGate, Parts
from webhook_server.runs.commands import Decision
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import (
    Attempt,
    Cause,
    Member,
    Reason,
    Run,
    RunDraft,
    RunKey,
    State,
    instance_names,
)
from webhook_server.runs.observations import ImageArrived
from webhook_server.settings import Settings
from webhook_server.settings_reader import read

SPEC = "version: 1\nname: digits\nrun: python train.py\noutputs:\n  - path: outputs\n"
IMAGE = "ghcr.io/acme/digits@sha256:" + "a" * 64
NONCE = "0123456789abcdef" * 2
FACTS = {"engine": "docker", "cpu_count": 8, "memory_bytes": 1 << 34, "disk_free_bytes": 1 << 40}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fault(self) -> str:
        return str(self.json["error"]["message"])


@dataclass(frozen=True)
class Site:
    """The server, with its parts in reach."""

    url: str
    parts: Parts
    doors: Doors
    github: GithubSide | None = None

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def ask(
        self,
        method: str,
        path: str,
        *,
        value: object = None,
        body: bytes | None = None,
        token: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        told = dict(headers or {})
        if value is not None:
            body = json.dumps(value).encode()
            told.setdefault("Content-Type", "application/json")
        if token:
            told["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path.removeprefix(self.url), body, told)
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    # ── what the loop would do ──────────────────────────────────────────────────────────────

    def a_run(
        self,
        *,
        repository_id: int = 0,
        spec_text: str = SPEC,
        commit: str = "c" * 40,
        trigger: str | None = None,
    ) -> str:
        """Accept a run."""
        from cynthus.specfile import parse

        run_id = self.parts.new_id()
        draft = RunDraft(
            id=run_id,
            key=RunKey(
                repository_id=repository_id,
                commit_sha=commit,
                spec_path="cynthus.yaml",
                trigger=trigger or f"local/{run_id}",
            ),
            repository="acme/digits",
            ref="refs/heads/main",
            event="local",
            default_branch="main",
            pull_request=None,
            workflow_run_url=None,
            spec=parse(spec_text.encode(), "cynthus.yaml"),
            spec_text=spec_text,
        )
        arrived = ImageArrived(image=IMAGE, failure=None)
        self.parts.runs.accept(draft, arrived=arrived, token_id=None, now=self.parts.now())
        return run_id

    def save(self, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Save a change as the loop would, and ring as it would."""
        now = self.parts.now()
        self.parts.runs.wake(run_id, now)
        claims = self.parts.runs.claim(limit=1000, lease=timedelta(seconds=30), now=now)
        run = None
        for claim in claims:
            if claim.run.id != run_id:
                self.parts.runs.release(claim)
                continue
            run = change(claim.run)
            over = run.state is State.FINISHED
            again_at = None if over else now + timedelta(hours=1)
            decision = Decision(run=run, look_again_at=again_at)
            assert self.parts.runs.save(claim, decision, now)
        assert run is not None
        self.parts.bell.ring("publications")
        self.parts.bell.ring(f"events/{run_id}")
        return run

    def order(self, run_id: str, *, nodes: int = 1, **of_offer: Any) -> str:
        """Give the run an attempt; return its first instance's name."""
        now = self.parts.now()

        def change(run: Run) -> Run:
            number = len(run.attempts) + 1
            attempt = an_attempt(instance_names(run.id, number, nodes), number, now)
            attempt = replace(attempt, offer=replace(attempt.offer, **of_offer))
            return replace(
                run,
                image=IMAGE,
                attempts=(*run.attempts, attempt),
                **entered(State.PROVISIONING, "an instance is ordered", now),
            )

        attempt = self.save(run_id, change).attempt
        assert attempt is not None
        return attempt.instance

    def enter(self, run_id: str, state: State, text: str = "a step", **more: Any) -> Run:
        """Move the run to a state."""
        now = self.parts.now()
        return self.save(run_id, lambda run: replace(run, **entered(state, text, now), **more))

    def keep_warm(self, run_id: str, how_long: timedelta) -> None:
        """Let the run's instance wait for the next one, as its end would."""
        now = self.parts.now()

        def change(run: Run) -> Run:
            assert run.attempt is not None
            kept = replace(run.attempt, kept_until=now + how_long)
            step = entered(State.RELEASING, "the command succeeded", now)
            return replace(run, attempts=(*run.attempts[:-1], kept), **step)

        self.save(run_id, change)

    # ── what an agent would do ──────────────────────────────────────────────────────────────

    def enrol(
        self,
        instance: str,
        *,
        nonce: str = NONCE,
        secret: str | None = None,
        identity: str | None = None,
    ) -> Answer:
        """Ask as an agent does."""
        return self.ask(
            "POST",
            "/agent/v1/enrol",
            value={
                "instance": instance,
                "secret": enrol_secret(self.parts.server_key, instance)
                if secret is None
                else secret,
                "identity_token": identity,
                "nonce": nonce,
                "agent_version": "0.1.0",
                "facts": FACTS,
            },
        )

    def an_agent(self, run_id: str | None = None, **of_run: Any) -> Agent:
        """Return an agent that has enrolled."""
        run_id = run_id or self.a_run(**of_run)
        instance = self.order(run_id)
        answer = self.enrol(instance)
        assert answer.status == 200, answer.body
        return Agent(self, run_id, instance, answer.json["token"], answer.json["work"])

    def a_gang(self) -> list[Agent]:
        """Return two agents that execute one attempt together."""
        run_id = self.a_run()
        self.order(run_id, nodes=2)
        agents = []
        for name in instance_names(run_id, 1, 2):
            answer = self.enrol(name)
            assert answer.status == 200, answer.body
            agents.append(Agent(self, run_id, name, answer.json["token"], answer.json["work"]))
        return agents


@dataclass
class Agent:
    """An agent played by hand."""

    site: Site
    run_id: str
    instance: str
    token: str
    work: dict[str, Any]
    seq: int = 0

    def beat(self, *events: tuple[str, dict[str, Any]], **members: Any) -> Answer:
        """Send the next heartbeat."""
        self.seq += 1
        return self.send({"seq": self.seq, "events": [an_event(*e) for e in events], **members})

    def send(self, members: dict[str, Any], *, token: str | None = None) -> Answer:
        """Send a heartbeat as it stands."""
        beat = {"sent_at": "2026-01-31T12:00:00Z", "state": "running", **members}
        return self.site.ask(
            "POST", "/agent/v1/heartbeat", value=beat, token=self.token if token is None else token
        )

    def ask_upload(self, path: str, content: bytes, **change: Any) -> Answer:
        """Ask where an output may be put."""
        import hashlib

        digest = hashlib.sha256(content).hexdigest()
        ask = {"path": path, "size_bytes": len(content), "sha256": digest, **change}
        return self.site.ask("POST", "/agent/v1/uploads", value=ask, token=self.token)

    def upload(self, path: str, content: bytes) -> Answer:
        """Put an output where the server says."""
        grant = self.ask_upload(path, content)
        assert grant.status == 200, grant.body
        return self.site.ask("PUT", grant.json["url"], body=content)


def an_event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"at": "2026-01-31T12:00:00Z", "kind": kind, "body": body}


def an_attempt(names: tuple[str, ...], number: int, now: datetime) -> Attempt:
    offer = Offer(
        provider="local",
        place="this machine",
        machine="docker",
        gpu_type=None,
        gpu_count=0,
        cpu=4,
        memory_bytes=1 << 34,
        usd_per_hour=Decimal("0.71"),
    )
    members = tuple(
        Member(name=name, rank=rank, last_try_at=now) for rank, name in enumerate(names)
    )
    life = timedelta(hours=26)
    return Attempt(number=number, offer=offer, ordered_at=now, max_life=life, members=members)


def entered(state: State, text: str, now: datetime) -> dict[str, Any]:
    return {
        "state": state,
        "state_since": now,
        "reason": Reason(cause=Cause.PROGRESS, text=text),
    }


@contextmanager
def open_site(
    settings: Settings,
    jobs: JobGate | None = None,
    providers: dict[str, Provider] | None = None,
    *,
    with_github: bool = False,
) -> Iterator[Site]:
    """Serve until the block ends; GitHub's doors are open where the settings name an App."""
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings))
        found = stack.enter_context(ground(settings, listening))
        parts = open_parts(found, jobs=jobs, alive=tuple, providers=providers)
        github = app._open_github(found, {}) if with_github else None
        doors = open_doors(parts, github=github)
        started = threading.Event()
        server = http_server(doors, started=started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert started.wait(60)
            yield Site(found.base_url, parts, doors, github)
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def settings(state_dir: Path) -> Settings:
    return read({"CYNTHUS_STATE_DIR": str(state_dir), "CYNTHUS_PORT": "0"})


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with open_site(settings) as opened:
        yield opened


def raw(port: int, content: bytes, *, wait_s: float = 10) -> bytes:
    """Send bytes as they are; return everything until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), wait_s) as connection:
        connection.sendall(content)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received
