"""Everything that one push needs, up and joined: GitHub, a runner, a registry, a Cynthus server."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cynthus.client import Client
from cynthus.errors import CynthusError
from demo.cloud import Cloud, google_cloud, push_agent_image
from demo.processes import (
    Program,
    Programs,
    StageError,
    clean_environment,
    undisturbed,
    wait_until,
)
from demo.server import Server
from demo.services import Engine, Registry, docker_engine, forget_images, registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ROOT = Path(__file__).resolve().parent.parent
OWNER = "acme"
PERSON = "mira"
END_LIMIT_S = 60.0  # a command gets ten seconds between SIGTERM and SIGKILL
LOOK_EACH_S = 0.1  # a look costs a few milliseconds of both programs
REQUEST_LIMIT_S = 60.0  # the simulators answer in milliseconds; a busy machine gets a minute


class GitHub:
    """The GitHub simulator's address, with its control doors."""

    def __init__(self, url: str, program: Program) -> None:
        self.url = url
        self.program = program

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Call a control door under `/_sim/` and return its JSON answer."""
        return self._call(method, f"{self.url}/_sim/{path}", body, {})

    def get(self, path: str, token: str) -> Any:
        """Read GitHub's REST API with a token."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        return self._call("GET", f"{self.url}/api/{path}", None, headers)

    def post(self, path: str, token: str) -> Any:
        """Call a door of GitHub's REST API that changes something."""
        headers = {"Authorization": f"Bearer {token}"}
        return self._call("POST", f"{self.url}/api/{path}", {}, headers)

    def download(self, path: str, token: str) -> bytes:
        """Read the bytes of a release asset."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/octet-stream"}
        return self._bytes("GET", f"{self.url}/api/{path}", None, headers)

    def _call(self, method: str, url: str, body: object, headers: dict[str, str]) -> Any:
        text = self._bytes(method, url, body, headers)
        return json.loads(text) if text else None

    def _bytes(self, method: str, url: str, body: object, headers: dict[str, str]) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            url, data, {**kind, **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise StageError(f"{method} {url}: {error.code} {error.read().decode()}") from error


@dataclass
class Stage:
    """A stage that stands."""

    folder: Path
    programs: Programs
    engine: Engine
    registry: Registry | None
    github: GitHub
    server: Server
    app_id: int
    app_key: str
    installation_id: int
    person_token: str
    cloud: Cloud | None = None
    told_before_push: int = 0  # characters of the runner's log

    @property
    def exchanges(self) -> Path:
        """Return the file with every request GitHub answered, one JSON object a line."""
        return self.folder / "exchanges.jsonl"

    @property
    def client(self) -> Client:
        """Return a client with the operator's token."""
        return Client(self.server.url, self.server.api_token)

    def create_repository(self, name: str) -> int:
        """Make an empty repository with the app installed; return its id."""
        made = self.github.control(
            "POST", "repos", {"owner": OWNER, "name": name, "default_branch": "main"}
        )
        self.github.control(
            "PUT", f"repos/{OWNER}/{name}/collaborators/{PERSON}", {"permission": "write"}
        )
        return int(made["id"])

    def push(
        self, name: str, source: Path, *, message: str = "Train", when: datetime | None = None
    ) -> str:
        """Commit a copy of `source` and push it with real git; return the commit.

        `when` dates the commit; without it, it is dated now.
        """
        work = self.folder / "work" / name
        if not (work / ".git").exists():
            work.mkdir(parents=True, exist_ok=True)
            self.git(work, "init", "--quiet", "--initial-branch", "main")
            address = self.github.url.replace("http://", f"http://{PERSON}:{self.person_token}@")
            self.git(work, "remote", "add", "origin", f"{address}/{OWNER}/{name}.git")
        shutil.copytree(source, work, dirs_exist_ok=True)
        self.git(work, "add", "--all")
        self.git(work, "commit", "--quiet", "--allow-empty", "--message", message, when=when)
        self.told_before_push = len(self._told_by_runner())
        self.git(work, "push", "--quiet", "origin", "HEAD:main")
        return self.git(work, "rev-parse", "HEAD").strip()

    def git(self, work: Path, *words: str, when: datetime | None = None) -> str:
        """Run git in `work` as the demo's person and return what it prints."""
        who = ["-c", f"user.name={PERSON}", "-c", f"user.email={PERSON}@example.org"]
        quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        if when is not None:
            quiet |= {"GIT_AUTHOR_DATE": when.isoformat(), "GIT_COMMITTER_DATE": when.isoformat()}
        answer = subprocess.run(
            ["git", *who, "-C", str(work), *words],
            capture_output=True,
            text=True,
            env=clean_environment(GIT_TERMINAL_PROMPT="0", **quiet),
            check=False,
        )
        if answer.returncode != 0:
            raise StageError(f"git {words[0]}: {answer.stderr.strip()}")
        return answer.stdout

    def installation_token(self) -> str:
        """Return a token of the app's installation, made as the server makes its own."""
        import jwt

        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + 300, "iss": str(self.app_id)}
        proof = jwt.encode(claims, self._key, algorithm="RS256")
        path = f"app/installations/{self.installation_id}/access_tokens"
        return str(self.github.post(path, proof)["token"])

    @functools.cached_property
    def _key(self) -> RSAPrivateKey:
        """Return the app's key, read once: that takes as long as a hundred signatures."""
        from jwt.algorithms import RSAAlgorithm

        rsa = RSAAlgorithm(RSAAlgorithm.SHA256)
        return cast("RSAPrivateKey", rsa.prepare_key(self.app_key))

    def wait_for_run(self, commit: str, limit_s: float = 60.0) -> str:
        """Return the id of the run of a commit once the server has it."""
        tick = threading.Event()
        for _ in range(int(limit_s / LOOK_EACH_S)):
            for row in self.client.list(limit=20):
                if row["commit_sha"] == commit:
                    return str(row["id"])
            tick.wait(LOOK_EACH_S)
        raise StageError(f"no run of commit {commit[:7]} appeared within {limit_s:.0f} s")

    def wait_for_image(self, run_id: str, limit_s: float = 300.0) -> None:
        """Return once the run has left `building`; raises StageError when its workflow failed."""
        tick = threading.Event()
        for _ in range(int(limit_s / LOOK_EACH_S)):
            failed = self._workflow_failed()  # asked first: what it failed to bring came never
            if self.client.get(run_id).state != "building":
                return
            if failed:
                raise StageError(f"the workflow run failed. Its log ends:\n{self.runner.tail()}")
            tick.wait(LOOK_EACH_S)
        raise StageError(f"no image came within {limit_s:.0f} s")

    def _workflow_failed(self) -> bool:
        """Say whether a workflow run that began after the last push has failed."""
        lines = self._told_by_runner()[self.told_before_push :].splitlines()
        begun = {line.partition(":")[0] for line in lines if re.match(r"\S+: \w+ starts ", line)}
        return any(f"{key}: failure" in lines for key in begun)

    def _told_by_runner(self) -> str:
        return self.runner.log.read_text("utf-8", "replace")

    @property
    def runner(self) -> Program:
        """Return the program that runs workflows."""
        return next(program for program in self.programs.running if program.name == "actions")

    def end_runs(self) -> None:
        """Cancel what still runs and wait for its end: instances outlive the server on purpose."""
        tick = threading.Event()
        for _ in range(int(END_LIMIT_S / LOOK_EACH_S)):
            try:
                live = [row["id"] for row in self.client.list(limit=50) if not row["finished_at"]]
                for run_id in live:
                    self.client.cancel(str(run_id))
            except CynthusError:
                return  # the server is gone: its agents stop at their silence limit
            if not live:
                return
            tick.wait(LOOK_EACH_S)


@contextlib.contextmanager
def standing(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    process: bool = False,
    cloud: bool = False,
    workflow_secrets: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Bring a stage up in `folder`, and down at the end, whatever happens.

    `process`: as on a machine without a Docker engine. `cloud`: with a simulated Google Cloud,
    which runs are sent to. `workflow_secrets`: what workflows find in `secrets`.
    """
    programs = Programs(folder / "log")
    engine = Engine(None, "asked for process mode") if process else docker_engine()
    try:
        beside = _cloud if cloud else _no_cloud
        stage = _raise_up(folder, programs, engine, settings or {}, beside)
        _runner(stage, workflow_secrets or {})
        try:
            yield stage
        finally:
            with undisturbed():
                stage.end_runs()
                if stage.engine.client and stage.registry:
                    forget_images(stage.engine.client, stage.registry)
    finally:
        with undisturbed():
            programs.stop()
            engine.stop()


def _raise_up(
    folder: Path,
    programs: Programs,
    engine: Engine,
    settings: Mapping[str, str],
    beside: Callable[[Programs, Path, Engine, Registry | None, Server], Cloud | None],
) -> Stage:
    images = registry(programs, folder / "registry") if engine.client else None
    github = _github(programs, folder / "github")
    server = Server(programs, folder / "server")
    cloud = beside(programs, folder, engine, images, server)
    secret = secrets.token_hex(24)
    app = github.control(
        "POST",
        "app",
        {
            "name": "Cynthus",
            "owner": OWNER,
            "webhook_url": f"{server.url}/webhooks/github",
            "webhook_secret": secret,
            "permissions": {
                "checks": "write",
                "contents": "write",
                "issues": "write",
                "metadata": "read",
                "pull_requests": "write",
            },
            "events": ["push", "pull_request", "issue_comment", "check_run", "check_suite"],
        },
    )
    person = github.control("POST", "users", {"login": PERSON})
    installed = github.control("POST", "installations", {"app_id": app["id"], "owner": OWNER})
    key = folder / "app.pem"
    key.write_text(app["pem"], "utf-8")
    key.chmod(0o600)
    server.settings = {
        "CYNTHUS_WEBHOOK_SECRET": secret,
        "CYNTHUS_GITHUB_API_URL": f"{github.url}/api",
        "CYNTHUS_GITHUB_APP_ID": str(app["id"]),
        "CYNTHUS_GITHUB_PRIVATE_KEY": str(key),
        "CYNTHUS_OIDC_ISSUER": f"{github.url}/oidc",
        "CYNTHUS_ALLOWED": OWNER,
        "CYNTHUS_BUNDLES_DIR": str(folder / "bundles"),
        **_without_engine(engine),
        **(cloud.settings if cloud else {}),
        **settings,
    }
    server.start()
    return Stage(
        folder=folder,
        programs=programs,
        engine=engine,
        registry=images,
        github=github,
        server=server,
        app_id=int(app["id"]),
        app_key=app["pem"],
        installation_id=int(installed["id"]),
        person_token=str(person["token"]),
        cloud=cloud,
    )


def _no_cloud(*_: object) -> None:
    """Stand nothing beside: runs stay on this machine."""


def _cloud(
    programs: Programs, folder: Path, engine: Engine, images: Registry | None, server: Server
) -> Cloud:
    if images is None:
        raise StageError(f"the simulated cloud: needs a Docker engine ({engine.why_not})")
    agent_image = push_agent_image(engine, images, folder / "agent")
    # What the instances of a real cloud reach over the network: the server and the registry.
    reach = [server.port, int(images.address.rpartition(":")[2])]
    return google_cloud(programs, folder, reach=reach, agent_image=agent_image)


def _github(programs: Programs, state: Path) -> GitHub:
    words = [sys.executable, "-m", "simulators", "github", "--port", "0", "--state", str(state)]
    words += ["--exchanges", str(state.with_name("exchanges.jsonl"))]
    program = programs.start("github", words, environment=clean_environment())
    ready = state / "ready.json"
    wait_until(ready.exists, "the GitHub simulator", program)
    return GitHub(str(json.loads(ready.read_text("utf-8"))["url"]), program)


def _runner(stage: Stage, workflow_secrets: Mapping[str, str]) -> None:
    folder = stage.folder
    words = [sys.executable, "-m", "simulators", "actions", "--github", stage.github.url]
    words += ["--state", str(folder / "actions"), "--action", f"cynthus/cynthus={ROOT}"]
    words += ["--var", f"CYNTHUS_SERVER={stage.server.url}"]
    for name in workflow_secrets:  # their values in the environment: arguments can be seen by all
        words += ["--secret", name]
    if stage.registry is not None:
        words += ["--var", f"CYNTHUS_REGISTRY={stage.registry.address}"]
    else:  # nothing to push: the Action makes a bundle where this machine's server may take it
        for name, value in _without_engine(Engine(None)).items():
            words += ["--env", f"{name}={value}"]
        words += ["--env", f"CYNTHUS_BUNDLES_DIR={folder / 'bundles'}"]
        words += ["--env", f"CYNTHUS_CACHE_DIR={folder / 'cache'}"]
    environment = {**clean_environment(), **workflow_secrets}
    stage.programs.start("actions", words, environment=environment)


def _without_engine(engine: Engine) -> dict[str, str]:
    """Hide an engine that this machine may have all the same."""
    return {} if engine.client else {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
