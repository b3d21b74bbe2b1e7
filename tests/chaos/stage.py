"""Several servers on one PostgreSQL, GitHub and a cloud over loopback, a link between each pair."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import requests
from sqlalchemy import Engine, create_engine, text

from cynthus.client import Client
from cynthus.codec import encode
from cynthus.wire import RunRequest
from demo.processes import Programs, free_port
from demo.server import Server
from tests.chaos.crew import Crew
from tests.chaos.proxy import Link, Links
from tests.gcp_fixture import GcpSimulator, gcp_simulator
from tests.github_fixture import SECRET, App, GithubSimulator, github_simulator
from tests.postgres_fixture import Postgres, a_database, a_postgres, drop
from tests.prometheus_text import parsed

OWNER, REPO = "acme", "digits"
PLACES = ("us-central1-a", "us-west1-b")
SPEC = """\
version: 1
name: {name}
run: wait for the word
resources: {{places: [us-central1-a, us-west1-b], max_duration: 30m}}
retry: {{attempts: 3}}
"""
IMAGE = "registry.test/digits@sha256:" + "a" * 64
T = TypeVar("T")
TEST_SESSION = "the test"
CLAIMED = ("runs", "deliveries", "publications")  # tables whose rows are claimed for a lease
LEASE_S = 60  # of all claims: LEASE in `webhook_server/reconcile.py` and its like
OLD_S = 5  # a claim of this age was left by whoever had it, or its owner had a hard time
LIMIT_S = 300  # of what takes seconds, and a minute where an order was in doubt: others work here
# What GitHub asks for, a second between writes, would be a minute of every scenario.
HASTE = {"CYNTHUS_GITHUB_WRITE_SPACING": "0.02"}


def wait_for(what: str, find: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Return what `find` finds once it is something; what raises OSError has found nothing."""
    late_at = time.monotonic() + limit_s
    tick = threading.Event()
    while time.monotonic() < late_at:
        with contextlib.suppress(OSError):
            if found := find():
                return found
        tick.wait(0.05)
    raise AssertionError(f"{what}: not within {limit_s:.0f} s")


@dataclass
class Replica:
    """One server process, and its links to the outside."""

    server: Server
    postgres: Link
    github: Link
    cloud: Link
    front: Link

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self.server.program is not None
        return self.server.program.process

    @property
    def log(self) -> str:
        assert self.server.program is not None
        return self.server.program.log.read_text("utf-8", "replace")

    def start(self) -> None:
        self.server.start()

    def kill(self) -> None:
        assert self.server.program is not None
        self.server.program.kill()

    def pause(self) -> None:
        """Stop its process; balancers send what comes next to others, since it is not ready."""
        os.kill(self.process.pid, signal.SIGSTOP)
        self.front.left_out.add(self.server.port)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        self.front.left_out.discard(self.server.port)

    def terminate(self) -> float:
        """Send SIGTERM and wait for the end; return how many seconds it took."""
        begun = time.monotonic()
        self.process.terminate()
        self.process.wait(LIMIT_S)
        return time.monotonic() - begun

    def ready(self) -> tuple[int, str]:
        """Return what /readyz says."""
        return self._said("/readyz")

    def refused_writes(self) -> float:
        """Return how many decisions of its passes were not stored, as /metrics counts them."""
        status, told = self._said("/metrics")
        assert status == 200, told
        passes = parsed(told)["cynthus_passes_total"].samples
        return passes.get(("cynthus_passes_total", (("result", "lost"),)), 0)

    def _said(self, path: str) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {self.server.api_token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Runs that were asked for together, all of one commit."""

    commit: str
    run_ids: tuple[str, ...]


@dataclass
class Stage:
    """A stage that stands."""

    folder: Path
    programs: Programs
    postgres: Postgres
    database_url: str
    github: GithubSimulator
    app: App
    repository_id: int
    cloud: GcpSimulator
    links: Links
    front: Link  # to whichever replica answers: what GitHub, people and agents know
    crew: Crew
    replicas: list[Replica]
    engine: Engine
    api_token: str
    waves: list[Wave] = field(default_factory=list)
    doubted: set[str] = field(default_factory=set)  # runs with a create whose answer was lost

    @property
    def client(self) -> Client:
        return Client(self.front.url, self.api_token)

    # ── people ─────────────────────────────────────────────────────────────────────────────────

    def wave(self, number: int) -> Wave:
        """Push a commit, and ask for so many runs of it as its workflow's jobs would."""
        commit = self.push()
        names = [f"runs/{one}.yaml" for one in range(number)]
        wave = Wave(commit=commit, run_ids=tuple(self.submit(commit, name) for name in names))
        self.waves.append(wave)
        return wave

    def push(self) -> str:
        """Push a commit without a spec of its own; GitHub delivers the webhook."""
        files = {"train.py": f"# {secrets.token_hex(8)}\n"}
        return self.github.push(self.folder / "work", files, to=f"{OWNER}/{REPO}")

    def submit(self, commit: str, spec_path: str) -> str:
        """Ask for a run until it is accepted, as the Action does; return its id."""
        name = spec_path.replace("/", "-").removesuffix(".yaml")
        request = RunRequest(
            repository_id=self.repository_id,
            repository=f"{OWNER}/{REPO}",
            commit_sha=commit,
            ref="refs/heads/main",
            event="push",
            trigger="push",
            spec_path=spec_path,
            spec_text=SPEC.format(name=name),
            image=IMAGE,
        )
        body = json.dumps(encode(request)).encode()
        return wait_for("a run is accepted", lambda: self._accepted(commit, body))

    def _accepted(self, commit: str, body: bytes) -> str | None:
        headers = {"authorization": f"Bearer {self._job_token(commit)}"}
        headers["content-type"] = "application/json"
        url = f"{self.front.url}/api/v1/runs"
        answer = requests.post(url, body, headers=headers, timeout=30)
        if answer.status_code == 202:
            return str(answer.json()["run_id"])
        assert answer.status_code in {401, 503}, answer.text  # 401: the lost answer used the token
        return None

    def _job_token(self, commit: str) -> str:
        wish = {"repo": f"{OWNER}/{REPO}", "sha": commit, "event": "push", "id_token": True}
        job = self.github.post("/workflow_jobs", **wish)
        given = requests.get(
            f"{job['id_token_request_url']}&audience=cynthus",
            headers={"Authorization": f"Bearer {job['id_token_request_token']}"},
            timeout=60,
        )
        return str(given.json()["value"])

    # ── what is so ─────────────────────────────────────────────────────────────────────────────

    def rows(self, query: str, **values: object) -> list[Any]:
        """Ask the database, past every link."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values).mappings())

    def states(self, wave: Wave) -> list[str]:
        query = "SELECT state FROM runs WHERE id = ANY(:ids)"
        return [row["state"] for row in self.rows(query, ids=list(wave.run_ids))]

    def all_in(self, wave: Wave, *states: str) -> bool:
        found = self.states(wave)
        return len(found) == len(wave.run_ids) and set(found) <= set(states)

    def wait_until_running(self, wave: Wave) -> None:
        wait_for("all run", lambda: self._goes_on() and self.all_in(wave, "running"))

    def let_go(self, wave: Wave) -> None:
        """Let the work end, and wait until its runs are over and everything is shown."""
        self.crew.may_end.set()
        self.wait_for_the_end(wave)

    def wait_for_the_end(self, wave: Wave) -> None:
        wait_for("all have ended", lambda: self._goes_on() and self.all_in(wave, "finished"))
        wait_for("all is shown", lambda: self._goes_on() and self._all_is_shown())
        self.github.settled(self.app)  # what was shown last has come back as webhooks
        wait_for("all is handled", lambda: self._goes_on() and not self._undone("deliveries"))
        self.crew.may_end.clear()

    def _goes_on(self) -> bool:
        """Let leases of some age be over: a claim whose end could not be stored lasts a minute.

        A server that works ends a claim within a second; one that does not is refused.
        """
        self._let_run_out(f"BETWEEN now() AND now() + interval '{LEASE_S - OLD_S} seconds'")
        return True

    def _all_is_shown(self) -> bool:
        """Say whether nothing is left to show; what is looked at minutes later is looked at now.

        A create that was killed in the middle may take effect late: its publication is due once
        more when it can no longer (`webhook_server/publish/twins.py`).
        """
        over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        with self.engine.begin() as connection:
            found = connection.execute(
                text(
                    "UPDATE publications SET due_at = now(),"
                    " sent = jsonb_set(sent::jsonb, '{twins_at}', to_jsonb(CAST(:over AS text)))"
                    " WHERE ctid IN (SELECT ctid FROM publications"
                    " WHERE state = 'done' AND due_at > now() AND lock_token IS NULL"
                    " AND sent->>'twins_at' > :over FOR UPDATE SKIP LOCKED) RETURNING subject"
                ),
                {"over": over},
            )
            self.doubted.update(found.scalars())
        return not self._undone("publications")

    def _undone(self, table: str) -> list[Any]:
        return self.rows(f"SELECT due_at FROM {table} WHERE due_at IS NOT NULL")

    def claimed(self) -> list[Any]:
        """Return what somebody has claimed and not let go of, its lease run out or not."""
        query = "SELECT '{0}' AS claimed, lock_until FROM {0} WHERE lock_token IS NOT NULL"
        return [row for table in CLAIMED for row in self.rows(query.format(table))]

    def leases_run_out(self) -> None:
        """Let the leases of now be over, as they are a minute later by the database's clock."""
        self._let_run_out("> now()")

    def _let_run_out(self, which: str) -> None:
        """End leases by their end; rows that somebody writes now are passed over.

        To wait for them, with others in hand, would be a deadlock with a server's own batch.
        """
        for table in CLAIMED:
            free = f"SELECT ctid FROM {table} WHERE lock_until {which} FOR UPDATE SKIP LOCKED"
            over = f"UPDATE {table} SET lock_until = now() - interval '1 second'"
            with self.engine.begin() as connection:
                connection.execute(text(f"{over} WHERE ctid IN ({free})"))


@contextlib.contextmanager
def standing(
    folder: Path, *, roles: Sequence[str] = ("all", "all"), postgres: Postgres | None = None
) -> Iterator[Stage]:
    """Bring a stage up in `folder`, and down at the end, whatever happens."""
    with contextlib.ExitStack() as stack:
        postgres = postgres or stack.enter_context(a_postgres(durable=True))
        url = a_database(postgres.url)
        stack.callback(drop, url)
        links = Links()
        stack.callback(links.close)
        github = stack.enter_context(github_simulator(folder / "github"))
        cloud = stack.enter_context(gcp_simulator(folder / "gcp"))
        cloud.post("/settings", provisioning_s=0, staging_s=0, stopping_s=0)
        ports = [free_port() for _ in roles]
        front = links.to(*(p for p, role in zip(ports, roles, strict=True) if role != "worker"))
        app, repository_id = _world(github, front)
        api_token = secrets.token_hex(24)
        programs = Programs(folder / "log")
        stack.callback(programs.stop)
        # It outlives restarts, and is told from the servers' sessions by its name.
        engine = create_engine(
            url, pool_pre_ping=True, connect_args={"application_name": TEST_SESSION}
        )
        stack.callback(engine.dispose)
        stage = Stage(
            folder=folder,
            programs=programs,
            postgres=postgres,
            database_url=url,
            github=github,
            app=app,
            repository_id=repository_id,
            cloud=cloud,
            links=links,
            front=front,
            crew=Crew(cloud, front.port, front.url),
            replicas=[],
            engine=engine,
            api_token=api_token,
        )
        for number, (port, role) in enumerate(zip(ports, roles, strict=True)):
            stage.replicas.append(_replica(stage, number, port, role))
        for replica in stage.replicas:
            replica.server.launch()
        for replica in stage.replicas:
            wait_for("a server is up", replica.server.ready_file.exists)
        stack.enter_context(stage.crew)
        stack.callback(links.heal)
        yield stage
        for replica in stage.replicas:
            replica.kill()  # how they stop is judged where they are told to, and takes a while


def _world(github: GithubSimulator, front: Link) -> tuple[App, int]:
    app = github.create_app(webhook_url=f"{front.url}/webhooks/github")
    github.post("/owners", login=OWNER)
    made = github.post("/repos", owner=OWNER, name=REPO, open=True)
    github.post("/installations", app_id=app.id, owner=OWNER)
    return app, int(made["id"])


def _replica(stage: Stage, number: int, port: int, role: str) -> Replica:
    links, folder = stage.links, stage.folder
    postgres = links.to(stage.postgres.port)
    github = links.to(_port(stage.github.url))
    cloud = links.to(_port(stage.cloud.url))
    key = folder / "app.pem"
    key.write_text(stage.app.pem)
    key.chmod(0o600)
    project = stage.cloud.project
    settings = {
        "CYNTHUS_DATABASE_URL": stage.database_url.replace(
            f":{stage.postgres.port}/", f":{postgres.port}/"
        ),
        "CYNTHUS_PUBLIC_URL": stage.front.url,
        "CYNTHUS_SERVER_KEY": hashlib.sha256(stage.api_token.encode()).hexdigest(),
        "CYNTHUS_BLOB_URL": (folder / "blobs").as_uri(),
        "CYNTHUS_SECRETS_URL": (folder / "secrets").as_uri(),
        "CYNTHUS_WEBHOOK_SECRET": SECRET,
        "CYNTHUS_ALLOWED": OWNER,
        "CYNTHUS_GITHUB_API_URL": f"{github.url}/api",
        "CYNTHUS_GITHUB_APP_ID": str(stage.app.id),
        "CYNTHUS_GITHUB_PRIVATE_KEY": str(key),
        "CYNTHUS_OIDC_ISSUER": f"{stage.github.url}/oidc",
        "CYNTHUS_PROVIDER": "gcp",
        "CYNTHUS_GCP_PROJECT": project,
        "CYNTHUS_GCP_COMPUTE_URL": cloud.url,
        # The prices of the package do: reading all of them anew takes a server's start a second.
        "CYNTHUS_GCP_BILLING_URL": "http://127.0.0.1:9/",
        "CYNTHUS_GCP_CERTS_URL": f"{stage.cloud.url}/oauth2/v3/certs",
        "CYNTHUS_GCP_AGENT_IMAGE": f"us-docker.pkg.dev/cynthus/agent/agent@sha256:{'0' * 64}",
        "CYNTHUS_GCP_SERVICE_ACCOUNT": f"runner@{project}.iam.gserviceaccount.com",
        **HASTE,
    }
    server = Server(
        stage.programs,
        folder / f"server-{number}",
        port=port,
        settings=settings,
        api_token=stage.api_token,
        role=role,
    )
    return Replica(server, postgres, github, cloud, stage.front)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
