"""A server process that runs folders as plain processes, its doors in reach: up in a second."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynthus.client import Client
from cynthus.wire import RunRequest, RunView
from demo.processes import Programs
from demo.server import Server

WEBHOOK_SECRET = "a webhook secret of more than 24 bytes"
SPEC = "version: 1\nname: light\nrun: {command}\n{more}"


@dataclass(frozen=True)
class Answer:
    """What a door answered."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class LightStage:
    """One server, one bundle."""

    server: Server
    bundle: str

    @property
    def client(self) -> Client:
        return Client(self.server.url, self.server.api_token)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path.removeprefix(self.server.url), body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()

    def deliver(self, event: str = "watch", body: bytes = b"{}", guid: str = "") -> int:
        """Deliver a webhook as GitHub does; return the status."""
        digest = hmac.new(WEBHOOK_SECRET.encode(), body, "sha256").hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid or str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={digest}",
        }
        return self.ask("POST", "/webhooks/github", body, headers).status

    def submit(self, command: str, more: str = "") -> str:
        """Ask for a run of a command; return its id."""
        text = SPEC.format(command=json.dumps(command, ensure_ascii=False), more=more)
        request = RunRequest(
            repository_id=0,
            repository="a folder",
            commit_sha="c" * 40,
            ref="refs/heads/main",
            event="local",
            trigger=f"local/{uuid.uuid4().hex[:12]}",
            spec_path="cynthus.yaml",
            spec_text=text,
            image=self.bundle,
        )
        return self.client.submit(request).run_id

    def wait_for_log(self, run_id: str, word: str) -> None:
        """Wait until the run has printed a word."""
        for event in self.client.follow(run_id):
            if event.kind == "log" and word in str(event.body.get("text")):
                return
        raise AssertionError(f"run {run_id} ended without printing {word!r}")

    def end(self, run_id: str) -> RunView:
        """Wait until the run is finished."""
        for event in self.client.follow(run_id):
            if event.kind == "state" and event.body.get("state") == "finished":
                break
        return self.client.get(run_id)

    def log(self, run_id: str) -> str:
        return b"".join(self.client.log(run_id)).decode()

    @property
    def server_log(self) -> str:
        assert self.server.program is not None
        return self.server.program.log.read_text("utf-8", "replace")


def a_bundle(folder: Path) -> str:
    """Make a folder that runs as a plain process; return its address."""
    (folder / "workspace").mkdir(parents=True)
    found = {"bin": "/usr/bin", "workspace": "workspace"}
    (folder / "bundle.json").write_text(json.dumps(found))
    return folder.as_uri()


def an_app_key(folder: Path) -> Path:
    """Make a private key as a GitHub App has."""
    key = folder / "app.pem"
    words = ["openssl", "genrsa", "-traditional", "-out", str(key), "2048"]
    subprocess.run(words, check=True, capture_output=True)
    return key


@contextlib.contextmanager
def light_stage(
    folder: Path, *, state: Path | None = None, logs: Path | None = None, **settings: str
) -> Iterator[LightStage]:
    """Start a server with its state in a folder; end it with the block."""
    programs = Programs(logs or folder / "log")
    given = {
        "CYNTHUS_BUNDLES_DIR": str(folder),
        "CYNTHUS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "CYNTHUS_ALLOWED": "acme",
        "CYNTHUS_GITHUB_APP_ID": "7",
        "CYNTHUS_GITHUB_PRIVATE_KEY": str(an_app_key(folder)),
        "CYNTHUS_GITHUB_API_URL": "http://127.0.0.1:9/",  # nobody listens on "discard"
        **settings,
    }
    server = Server(programs, state or folder / "state", settings=given)
    stage = LightStage(server, a_bundle(folder / "bundle"))
    try:
        server.start()
        yield stage
    finally:
        programs.stop()
