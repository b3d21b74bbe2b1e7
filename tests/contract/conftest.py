"""A simulated GitHub with one app and one repository, every exchange judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from github import Github

from tests.contract.github_description import judge_deliveries, judge_exchanges
from tests.github_fixture import (
    App,
    GithubSimulator,
    WebhookSink,
    github_simulator,
    webhook_sink,
)

_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Town:
    """One owner with an app installed, one repository with a commit, one work folder."""

    github: GithubSimulator
    sink: WebhookSink
    app: App
    owner: str
    installation_id: int
    repo_id: int
    sha: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.owner}/digits"

    def client(self, **more: Any) -> Github:
        """Return PyGithub acting as the installation."""
        return self.github.client(self.app, self.installation_id, **more)

    def push(self, files: dict[str, str], **more: str) -> str:
        """Commit files and push them."""
        return self.github.push(self.folder, files, to=self.name, **more)

    def token(self, **wish: Any) -> str:
        """Return an installation token, cut down as wished."""
        path = f"/app/installations/{self.installation_id}/access_tokens"
        answer = self.call("POST", path, self.jwt(), wish)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token

    def jwt(self) -> str:
        """Return the app's own token."""
        return self.app.auth().token

    def call(
        self, method: str, path: str, token: str | None = None, body: Any = None, **headers: str
    ) -> requests.Response:
        """Make one REST request, redirects not followed; `_` in header names stands for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        url = path if path.startswith("http") else f"{self.github.api_url}{path}"
        raw = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.request(method, url, headers=sent, timeout=60, allow_redirects=False, **raw)

    def repo_call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> requests.Response:
        """Make one REST request about the repository as the installation."""
        return self.call(method, f"/repos/{self.name}{path}", self.token(), body, **headers)


@pytest.fixture(scope="session")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    """One simulator for all tests that do not kill it; every test has an owner of its own."""
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture
def judged(github: GithubSimulator) -> Iterator[None]:
    """Hold every exchange and webhook of a test against GitHub's own description."""
    github.exchanges.touch()
    start = github.exchanges.stat().st_size
    seen = {delivery["id"] for delivery in github.sim("GET", "/deliveries")}
    yield
    with github.exchanges.open() as file:
        file.seek(start)
        problems = judge_exchanges(file)
    new = [d for d in github.sim("GET", "/deliveries") if d["id"] not in seen]
    problems += judge_deliveries(new)
    assert problems == []


@pytest.fixture
def town(github: GithubSimulator, judged: None, tmp_path: Path) -> Iterator[Town]:
    """Settle an owner, an app, a repository and its first commit."""
    with webhook_sink() as sink:
        yield settle(github, sink, tmp_path / "work")
        github.sim("DELETE", "/faults")


@pytest.fixture(scope="module")
def calm_town(github: GithubSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town shared by the tests of a module that change nothing; judge them with `judged`."""
    with webhook_sink() as sink:
        yield settle(github, sink, tmp_path_factory.mktemp("calm") / "work")


def settle(github: GithubSimulator, sink: WebhookSink, folder: Path, **repo: Any) -> Town:
    """Make a town in a simulator; the first deliveries have arrived when this returns."""
    owner = f"acme{next(_numbers)}"
    app = github.create_app(sink.url, name=f"Cynthus {owner}")
    made = github.post("/repos", **({"owner": owner, "name": "digits", "open": True} | repo))
    installation = github.post("/installations", app_id=app.id, owner=owner)
    sha = github.push(folder, {"cynthus.yaml": "name: digits\n"}, to=f"{owner}/digits")
    names = {sink.next().name for _ in range(3)}
    assert names == {"installation.created", "push", "check_suite.requested"}
    return Town(
        github=github,
        sink=sink,
        app=app,
        owner=owner,
        installation_id=installation["id"],
        repo_id=made["id"],
        sha=sha,
        folder=folder,
    )
