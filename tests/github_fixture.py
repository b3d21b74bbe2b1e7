"""A GitHub simulator of one's own: started as a program, steered over HTTP, stopped by its id."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from github import Auth, Github, GithubIntegration
from jwt.algorithms import RSAAlgorithm

from demo.processes import free_port

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 60  # a busy machine may take its time to import
SETTLE_LIMIT_S = 60  # a hundred webhooks take a second; a busy machine gets a minute
SECRET = "a webhook secret of more than 24 bytes"
PERMISSIONS = {
    "checks": "write",
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "statuses": "write",
    "actions": "write",
}
EVENTS = ["push", "pull_request", "issue_comment", "check_run", "repository", "release"]
GIT_ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


@functools.cache
def one_key() -> str:
    """Return a key for all apps of tests that are not about keys: to make one takes 50 ms."""
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return rsa.generate_private_key(65537, 2048).private_bytes(*form).decode()


@functools.cache
def _key(pem: str) -> rsa.RSAPrivateKey:
    """Read a key, once: it takes a hundred signatures' time."""
    return cast("rsa.RSAPrivateKey", RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(pem))


@dataclass(frozen=True, kw_only=True)
class App:
    """A registered GitHub App."""

    id: int
    slug: str
    client_id: str
    pem: str

    def auth(self) -> Auth.AppAuth:
        """Return PyGithub's way to sign as this app."""
        key = _key(self.pem)
        return Auth.AppAuth(self.id, sign_func=lambda told: jwt.encode(told, key, "RS256"))


class GithubSimulator:
    """A running simulator and its control endpoints."""

    def __init__(self, state: Path, port: int = 0) -> None:
        self.state = state
        self._port = port or free_port()  # it comes back there after any end
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.exchanges = state / "exchanges.jsonl"  # every REST request with its answer

    def start(self) -> None:
        """Start the program and wait until it says where it is."""
        words = [sys.executable, "-m", "simulators", "github"]
        self.process = subprocess.Popen(
            [*words, "--port", str(self._port), "--state", str(self.state), *self._recording()],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        timer = threading.Timer(START_LIMIT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if "github simulator at " not in line:
            self.stop()
            raise RuntimeError(f"the GitHub simulator did not start, it said: {line!r}")
        self.url = line.rpartition(" ")[2].strip()
        self._port = int(self.url.rpartition(":")[2])

    def _recording(self) -> list[str]:
        return ["--exchanges", str(self.exchanges)]

    @property
    def api_url(self) -> str:
        """Return PyGithub's base URL."""
        return f"{self.url}/api"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the program; safe to repeat."""
        if self.process is None:
            return
        self.process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def kill(self) -> None:
        """End the program as a power switch does."""
        self.stop(signal.SIGKILL)

    def sim(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control endpoint; raise when it refuses."""
        answer = requests.request(method, f"{self.url}/_sim{path}", json=body, timeout=90)
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} /_sim{path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def post(self, path: str, **body: Any) -> Any:
        """POST to a control endpoint."""
        return self.sim("POST", path, body)

    def create_app(self, webhook_url: str = "", **more: Any) -> App:
        """Register an app with the permissions Cynthus asks for."""
        wish = {
            "webhook_url": webhook_url,
            "webhook_secret": SECRET,
            "permissions": PERMISSIONS,
            "events": EVENTS,
        }
        made = self.post("/app", **(wish | more))
        return App(**{name: made[name] for name in ("id", "slug", "client_id", "pem")})

    def settled(self, app: App) -> int:
        """Wait until no webhook of an app is under way; return how many were answered so far."""
        late_at = time.monotonic() + SETTLE_LIMIT_S
        while (count := self.sim("GET", f"/deliveries/count?app_id={app.id}"))["unsent"]:
            assert time.monotonic() < late_at, f"webhooks are still under way: {count}"
            time.sleep(0.02)  # the simulator tells nobody that it has sent the last one
        return int(count["answered"])

    def integration(self, app: App) -> GithubIntegration:
        """Return PyGithub acting as the app itself."""
        return GithubIntegration(
            auth=app.auth(),
            base_url=self.api_url,
            seconds_between_requests=0,
            seconds_between_writes=0,
        )

    def client(self, app: App, installation_id: int, **more: Any) -> Github:
        """Return PyGithub acting as an installation; no retries, no pauses."""
        token = self.integration(app).get_access_token(installation_id).token
        return self.as_token(token, **more)

    def as_token(self, token: str, **more: Any) -> Github:
        """Return PyGithub with a token; no retries, no pauses."""
        wish = {"retry": None, "seconds_between_requests": 0, "seconds_between_writes": 0}
        return Github(auth=Auth.Token(token), base_url=self.api_url, **(wish | more))

    def push(self, folder: Path, files: dict[str, str], **more: str) -> str:
        """Commit files in a work folder and push them; returns the commit.

        `to` is OWNER/REPO (a first push needs it), `branch` the branch, `token` the password, `at`
        the moment of the commit: the same files and moments make the same commit.
        """
        branch = more.get("branch", "main")
        if not (folder / ".git").exists():
            folder.mkdir(parents=True, exist_ok=True)
            git(folder, "init", "--quiet", f"--initial-branch={branch}")
        elif git(folder, "branch", "--show-current") != branch:
            git(folder, "checkout", "--quiet", "-B", branch)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        git(folder, "add", "--all")
        words = ("commit", "--quiet", "--allow-empty", "-m", more.get("message", "A change"))
        at = more.get("at")
        dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at} if at else {}
        git(folder, *words, **dates)
        git(
            folder, "push", "--quiet", self.git_url(more["to"], more.get("token")), f"HEAD:{branch}"
        )
        return git(folder, "rev-parse", "HEAD")

    def git_url(self, full_name: str, token: str | None = None) -> str:
        """Return the address of a repository for git."""
        host = self.url.removeprefix("http://")
        login = f"x-access-token:{token}@" if token else ""
        return f"http://{login}{host}/{full_name}.git"


def git(folder: Path, *words: str, **environment: str) -> str:
    """Run git in a folder and return what it printed."""
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=GIT_ENVIRONMENT | environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A webhook as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["x-github-event"]

    @property
    def payload(self) -> Any:
        return json.loads(self.body)

    @property
    def name(self) -> str:
        """Return `event.action`, or the event where there is no action."""
        action = self.payload.get("action")
        return f"{self.event}.{action}" if action else self.event

    def signed_with(self, secret: str) -> bool:
        """Say whether the signature is right."""
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(self.headers["x-hub-signature-256"], f"sha256={digest}")


@dataclass
class WebhookSink:
    """An address for webhooks that keeps what arrives; `status` is what it answers."""

    status: int = 202
    url: str = ""
    arrived: queue.Queue[Delivery] = field(default_factory=queue.Queue)
    taken: int = 0

    def next(self, timeout_s: float = 60) -> Delivery:
        """Wait for the next delivery."""
        found = self.arrived.get(timeout=timeout_s)
        self.taken += 1
        return found

    def rest(self, answered: int) -> list[Delivery]:
        """Return what was not taken yet of the deliveries that were answered so far."""
        return [self.next() for _ in range(answered - self.taken)]

    def wait_for(self, name: str, timeout_s: float = 60) -> Delivery:
        """Wait for a delivery by its name, passing over others."""
        while True:
            found = self.next(timeout_s)
            if found.name == name:
                return found


@contextlib.contextmanager
def webhook_sink() -> Iterator[WebhookSink]:
    """Listen for webhooks on loopback."""
    sink = WebhookSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(sink.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            headers = {name.lower(): value for name, value in self.headers.items()}
            sink.arrived.put(Delivery(headers=headers, body=body))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.url = f"http://127.0.0.1:{server.server_address[1]}/webhooks/github"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def github_simulator(state: Path) -> Iterator[GithubSimulator]:
    """Run a simulator with its state in a folder."""
    simulator = GithubSimulator(state)
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
