"""From an empty server to one that serves GitHub, as its operator does it: no restart, no key."""

from __future__ import annotations

import html
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.processes import Programs
from demo.server import Server
from tests.canaries import files, hits
from tests.github_fixture import GithubSimulator, github_simulator

WAIT_S = 30  # a busy machine may take its time to begin anew
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Operator:
    """Somebody with a browser, signed in; follows forms by hand."""

    server: Server
    browser: requests.Session
    github: str

    def page(self, path: str) -> requests.Response:
        return self.browser.get(f"{self.server.url}{path}", timeout=30)

    def sign_in(self) -> None:
        fields = self.fields(self.page("/sign-in").text)
        fields["token"] = self.server.api_token
        answer = self.browser.post(f"{self.server.url}/sign-in", data=fields, timeout=30)
        assert answer.status_code == 200

    def review(self, **fields: str) -> requests.Response:
        hidden = self.fields(self.page("/setup").text)
        return self.browser.post(f"{self.server.url}/setup", data=hidden | fields, timeout=30)

    @staticmethod
    def fields(page: str) -> dict[str, str]:
        pairs = re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page)
        return {name: html.unescape(value) for name, value in pairs}

    def submit(self, page: str, **more: Any) -> requests.Response:
        """Send the last form of a page of GitHub's."""
        target = html.unescape(re.findall(r'<form method="post" action="([^"]+)"', page)[-1])
        fields = self.fields(page[page.rindex("<form method=") :])
        return self.browser.post(target, data=fields, timeout=30, **more)

    def way_back(self, **fields: str) -> str:
        """Do everything up to GitHub's last redirect; return where it leads."""
        review = self.review(**fields).text
        confirm = self.submit(review).text
        target = re.findall(r'<form method="post" action="([^"]+)"', confirm)[-1]
        answer = self.browser.post(
            self.github + target, data=self.fields(confirm), timeout=30, allow_redirects=False
        )
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        simulator.post("/settings", local_hooks=True, viewer="ada")
        yield simulator


@pytest.fixture
def server(github: GithubSimulator, tmp_path: Path) -> Iterator[Server]:
    programs = Programs(tmp_path / "logs")
    try:
        settings = {
            "CYNTHUS_GITHUB_API_URL": github.api_url,
            "CYNTHUS_GITHUB_WRITE_SPACING": "0.01",
            "CYNTHUS_LOG_LEVEL": "DEBUG",
        }
        server = Server(programs, tmp_path / "state", settings=settings)
        server.start()
        yield server
    finally:
        programs.stop()


@pytest.fixture
def operator(server: Server, github: GithubSimulator) -> Operator:
    operator = Operator(server, requests.Session(), github.url)
    operator.sign_in()
    return operator


def until(look: Callable[[], str], words: str) -> str:
    late_at = time.monotonic() + WAIT_S
    while words not in (text := look()):
        assert time.monotonic() < late_at, text
        time.sleep(0.05)
    return text


def newest_app(github: GithubSimulator) -> int:
    """Return the App that GitHub greeted last."""
    pings = [d for d in github.sim("GET", "/deliveries") if d["event"] == "ping"]
    return int(pings[-1]["app_id"])


def answered(github: GithubSimulator, app_id: int) -> dict[str, int]:
    """Return how we answered an App's deliveries, by event."""
    sent = github.sim("GET", "/deliveries")
    return {d["event"]: d["status_code"] for d in sent if d["app_id"] == app_id}


def handed_out(github: GithubSimulator) -> list[str]:
    """Return every secret that GitHub ever gave for a code."""
    found: list[str] = []
    for line in github.exchanges.read_text().splitlines():
        seen = json.loads(line)
        if seen["path"].startswith("/app-manifests/") and seen["status"] == 201:
            keys = seen["response"]
            found += [keys["webhook_secret"], keys["client_secret"]]
            found += keys["pem"].splitlines()[1:-1]
    return found


def test_an_empty_server_becomes_the_back_end_of_an_app_of_its_own(
    operator: Operator, github: GithubSimulator, server: Server
) -> None:
    github.post("/repos", owner="ada", name="digits", open=True)
    process = server.program
    assert process is not None
    back = operator.way_back(name="Of its own")
    pages = [operator.browser.get(back, timeout=30).text]
    assert "Of its own is set up" in pages[0]
    pages.append(until(lambda: operator.page("/setup").text, "Nowhere yet"))
    assert process.running  # the same process, at the same address
    installing = f"{github.url}/apps/of-its-own/installations"
    pages.append(operator.browser.post(installing, data={"repo": ""}, timeout=30).text)
    assert "works" in pages[-1]
    app_id = newest_app(github)
    until(lambda: str(answered(github, app_id)), "'installation': 202")
    # The way back is good once, and says no more than that there is an App.
    pages.append(operator.browser.get(back, timeout=30).text)
    assert "Of its own is set up" in pages[-1]
    process.stop()
    server.start()
    assert "works" in until(lambda: operator.page("/setup").text, "Of its own is set up")
    sources = [*files(server.state), *files(server.programs.folder)]
    sources += [(f"page {n}", page.encode()) for n, page in enumerate(pages)]
    secrets = handed_out(github)
    assert len(secrets) > 20  # a key has as many lines
    assert hits(secrets, sources) == []
