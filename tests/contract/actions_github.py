"""A GitHub for the Actions-runner tests: event feed, job reports, repositories over smart HTTP."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_GIT_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}
TOKEN = "ghs_" + "t" * 36


def git(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=_GIT_ENV, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@dataclass
class ReportedJob:
    """One job as GitHub was told about it."""

    registration: dict[str, Any]
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.registration["job_name"])

    @property
    def last(self) -> dict[str, Any]:
        return self.reports[-1]

    @property
    def conclusion(self) -> str:
        return str(self.last.get("conclusion", ""))

    @property
    def log(self) -> str:
        return str(self.last["log"])


class FakeGitHub(ThreadingHTTPServer):
    """The endpoints that the runner asks, and every repository by `git http-backend`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.events: list[dict[str, Any]] = []
        self.jobs: dict[int, ReportedJob] = {}
        self.id_token_asked: list[str] = []
        self.refusals = 0  # how many reports to answer with 502
        self.changed = threading.Condition()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def work(self, repo: str = "ada/demo") -> Path:
        """The working copy from which the tests push."""
        return self.folder / "work" / repo

    def commit(self, files: Mapping[str, str], repo: str = "ada/demo", message: str = "x") -> str:
        """Commit files to a repository and return the commit id."""
        bare, work = self.folder / f"{repo}.git", self.work(repo)
        if not bare.exists():
            bare.mkdir(parents=True)
            git("init", "--bare", "--quiet", "--initial-branch=main", folder=bare)
            git("init", "--quiet", "--initial-branch=main", str(work), folder=self.folder)
            git("remote", "add", "origin", str(bare), folder=work)
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)
        git("add", "--all", folder=work)
        git("commit", "--quiet", "--allow-empty", "--message", message, folder=work)
        git("push", "--quiet", "origin", "HEAD:main", folder=work)
        return git("rev-parse", "HEAD", folder=work)

    def push(self, files: Mapping[str, str], message: str = "x") -> str:
        """Commit files to ada/demo and put the push on the feed."""
        work = self.work()
        before = git("rev-parse", "HEAD", folder=work) if work.exists() else "0" * 40
        sha = self.commit(files, message=message)
        self.happen("push", push_payload(before, sha, message))
        return sha

    def happen(self, event: str, payload: dict[str, Any]) -> None:
        """Put an event on the feed."""
        with self.changed:
            seq = len(self.events) + 1
            self.events.append({"seq": seq, "event": event, "payload": payload})
            self.changed.notify_all()

    def job(self, name: str) -> ReportedJob:
        """Give the one job of that name."""
        (found,) = [job for job in self.jobs.values() if job.name == name]
        return found

    def wait_for_job(self, name: str, status: str) -> None:
        """Wait until a job is reported with a status."""
        with self.changed:
            done = self.changed.wait_for(
                lambda: any(
                    job.name == name and any(one["status"] == status for one in job.reports)
                    for job in self.jobs.values()
                ),
                timeout=60,
            )
        assert done, f"job {name!r} never became {status}"


def push_payload(before: str, sha: str, message: str = "x") -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "before": before,
        "after": sha,
        "deleted": False,
        "head_commit": {"id": sha, "message": message},
        "commits": [{"id": sha, "message": message}],
        **common_payload(),
    }


def common_payload() -> dict[str, Any]:
    owner = {"login": "ada", "id": 7}
    repository = {"id": 42, "full_name": "ada/demo", "owner": owner, "visibility": "private"}
    return {"repository": repository, "sender": {"login": "grace", "id": 9}}


class _Handler(BaseHTTPRequestHandler):
    server: FakeGitHub

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/_sim/events":
            self._json(self._events(int(query["after"][0]), float(query["wait"][0])))
        elif url.path == "/oidc":
            self.server.id_token_asked.append(self.headers["Authorization"])
            self._json({"value": f"jwt-for-{query['audience'][0]}"})
        else:
            self._git(url)

    def do_POST(self) -> None:
        if self.path == "/_sim/workflow_jobs":
            self._json(self._register(json.loads(self._body())))
        else:
            self._git(urllib.parse.urlsplit(self.path))

    def do_PATCH(self) -> None:
        match = re.fullmatch(r"/_sim/workflow_jobs/(\d+)", self.path)
        assert match is not None
        report = json.loads(self._body())
        if self.server.refusals:
            self.server.refusals -= 1
            self.send_error(502)
            return
        with self.server.changed:
            self.server.jobs[int(match[1])].reports.append(report)
            self.server.changed.notify_all()
        self._json({})

    def log_message(self, *args: object) -> None:
        pass

    def _events(self, after: int, wait: float) -> list[dict[str, Any]]:
        with self.server.changed:
            self.server.changed.wait_for(lambda: len(self.server.events) > after, timeout=wait)
            return self.server.events[after:]

    def _register(self, registration: dict[str, Any]) -> dict[str, Any]:
        with self.server.changed:
            job_id = 100 + len(self.server.jobs)
            self.server.jobs[job_id] = ReportedJob(registration)
            self.server.changed.notify_all()
        return {
            "run_id": 5000,
            "run_number": 3,
            "run_attempt": 1,
            "job_id": job_id,
            "check_run_id": job_id + 1000,
            "github_token": TOKEN,
            "id_token_request_url": f"{self.server.url}/oidc?api-version=2.0",
            "id_token_request_token": "oidc-request-secret",
        }

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _git(self, url: urllib.parse.SplitResult) -> None:
        """Serve a repository: https://git-scm.com/docs/git-http-backend."""
        env = _GIT_ENV | {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], env=env, input=self._body(), capture_output=True, check=False
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_github(folder: Path) -> Iterator[FakeGitHub]:
    """Serve a GitHub on loopback."""
    server = FakeGitHub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def runner_command(github: FakeGitHub, state: Path, *options: str) -> list[str]:
    """Say how the simulator is started."""
    command = [sys.executable, "-m", "simulators.actions_sim", "--github", github.url]
    return [*command, "--state", str(state), *options]


def run_once(
    github: FakeGitHub, state: Path, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Handle what is pending, and give back how the simulator ended."""
    return subprocess.run(
        runner_command(github, state, "--once", *options),
        cwd=ROOT,
        env=os.environ | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
