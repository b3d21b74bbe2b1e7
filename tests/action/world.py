"""What a GitHub runner gives the Action: a job's environment, a token service, a Cynthus server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.action.engine_fixture import DockerEngine

ROOT = Path(__file__).resolve().parents[2]
SHA = "a" * 40
REQUEST_TOKEN = "request-token-of-the-job"  # only this door's own: not a credential
RUN_TOKEN = "token-of-the-run-0123456789"


@dataclass
class Recorded:
    method: str
    path: str
    token: str
    body: Any


@dataclass
class World:
    """A recording server that plays GitHub's token endpoint and the Cynthus server."""

    url: str
    folder: Path
    requests: list[Recorded] = field(default_factory=list)
    statuses: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # of POST /runs, first
    events: list[dict[str, Any]] = field(default_factory=list)
    view: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=lambda: {"digests": [], "keys": []})
    tokens: int = 0

    @property
    def accepted(self) -> dict[str, Any]:
        return {"run_id": "r1", "url": f"{self.url}/runs/r1", "token": RUN_TOKEN}

    @property
    def submitted(self) -> list[dict[str, Any]]:
        return [r.body for r in self.requests if (r.method, r.path) == ("POST", "/api/v1/runs")]

    def environment(self, **more: str) -> dict[str, str]:
        """Return what the runner sets for a push to the default branch."""
        workspace = self.folder / "repository"
        workspace.mkdir(exist_ok=True)
        event = self.folder / "event.json"
        if not event.exists():
            event.write_text(json.dumps({"repository": {"id": 7, "default_branch": "main"}}))
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/root"),
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_REPOSITORY": "Acme/Train",
            "GITHUB_REPOSITORY_ID": "7",
            "GITHUB_SHA": SHA,
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_RUN_ID": "99",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
            "INPUT_SERVER": self.url,
            "INPUT_SPEC": "cynthus.yaml",
            **more,
        }

    def write(self, files: dict[str, str]) -> Path:
        """Write files of the repository."""
        workspace = self.folder / "repository"
        workspace.mkdir(exist_ok=True)
        for name, text in files.items():
            path = workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return workspace

    def event(self, event: dict[str, Any]) -> None:
        (self.folder / "event.json").write_text(json.dumps(event))

    def run(self, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the Action as its step does."""
        environ = {**self.environment(**more), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-P", "-W", "error", "-m", "action"],
            check=False,
            env=environ,
            cwd=environ["GITHUB_WORKSPACE"],
            capture_output=True,
            text=True,
            timeout=300,
        )

    def outputs(self) -> dict[str, str]:
        """Read $GITHUB_OUTPUT as the runner does."""
        path = self.folder / "output"
        lines = path.read_text().split("\n") if path.exists() else []
        found: dict[str, str] = {}
        at = 0
        while at < len(lines) and lines[at]:
            name, _, delimiter = lines[at].partition("<<")
            end = lines.index(delimiter, at + 1)
            found[name] = "\n".join(lines[at + 1 : end])
            at = end + 1
        return found

    def summary(self) -> str:
        path = self.folder / "summary"
        return path.read_text() if path.exists() else ""


_FIXED: dict[str, tuple[int, dict[str, Any]]] = {
    "/api/v1/locks": (404, {}),  # no commit of these tests was built before
}


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._record(None)
            parts = urlsplit(self.path)
            if parts.path == "/token":
                audience = parse_qs(parts.query)["audience"][0]
                world.tokens += 1
                self._answer(200, {"value": identity(audience, world.tokens)})
            elif parts.path == "/api/v1/images":
                self._answer(200, world.images)
            elif parts.path.endswith("/events"):
                after = int(parse_qs(parts.query)["after"][0])
                self._answer(200, [e for e in world.events if e["seq"] > after])
            else:
                self._answer(*_FIXED.get(parts.path, (200, world.view)))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
            body = json.loads(raw) if raw else None
            self._record(body)
            if self.path == "/api/v1/build-leases":
                self._answer(200, lease(body["holder"]))
            else:
                self._answer(*(world.statuses.pop(0) if world.statuses else (202, world.accepted)))

        def _record(self, body: Any) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            world.requests.append(Recorded(self.command, self.path.split("?")[0], token, body))

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def lease(holder: str) -> dict[str, Any]:
    """Whoever asks may build: there is nobody else."""
    return {"granted": True, "holder": holder, "until": "2026-01-31T12:00:00Z"}


def identity(audience: str, number: int) -> str:
    """A token's shape; whether it is genuine is the server's question, not the Action's."""
    return f"header.{audience}.{number}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = World(f"http://127.0.0.1:{server.server_port}", tmp_path)
    server.RequestHandlerClass = _handler(found)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def offline_base(docker_engine: DockerEngine) -> str:
    """Make the offline base image with the very script that users get."""
    from action.engine import base

    tag = base.offline_tag(())
    script = ROOT / "runner_images" / "base" / "offline.sh"
    if subprocess.run(
        [docker_engine.client, "image", "inspect", tag], check=False, capture_output=True
    ).returncode:
        environ = {**os.environ, "CYNTHUS_DOCKER": docker_engine.client}
        subprocess.run([str(script), tag], env=environ, check=True, capture_output=True)
    return tag


def write_wheel(folder: Path, name: str, version: str, code: str) -> Path:
    """Make a pure-Python wheel by hand: https://packaging.python.org/specifications/binary-distribution-format/."""
    import hashlib

    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel
