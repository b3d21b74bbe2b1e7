"""From an empty server to one that serves GitHub, as its operator does it: no restart, no key."""

from __future__ import annotations

import html
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from github import Auth
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from cynthus.client import Client
from cynthus.wire_doctor import Finding, Verdict
from demo.processes import Programs, clean_environment, wait_until
from demo.server import Server
from tests.canaries import files, hits
from tests.contract.github_description import judge_deliveries, judge_exchanges
from tests.github_fixture import GithubSimulator, github_simulator
from tests.postgres_fixture import a_database, a_server
from webhook_server.app_needs import NEEDS

WAIT_S = 60  # a busy machine may take its time to begin anew


@dataclass
class Operator:
    """Somebody with a browser, signed in; follows forms by hand."""

    server: Server
    browser: requests.Session
    github: str
    seen: list[str] = field(default_factory=list)  # pages, to be searched for secrets

    def page(self, path: str) -> requests.Response:
        return self.browser.get(f"{self.server.url}{path}", timeout=60)

    def sign_in(self) -> None:
        # A kept connection may end while a request is on its way: browsers then ask once more,
        # https://www.rfc-editor.org/rfc/rfc9112.html#section-9.3.1
        self.browser.mount("http://", HTTPAdapter(max_retries=Retry(connect=0, read=1, status=0)))
        fields = self.fields(self.page("/sign-in").text)
        fields["token"] = self.server.api_token
        answer = self.browser.post(f"{self.server.url}/sign-in", data=fields, timeout=60)
        assert answer.status_code == 200

    def review(self, **fields: str) -> requests.Response:
        hidden = self.fields(self.page("/setup").text)
        return self.browser.post(f"{self.server.url}/setup", data=hidden | fields, timeout=60)

    @staticmethod
    def fields(page: str) -> dict[str, str]:
        pairs = re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page)
        return {name: html.unescape(value) for name, value in pairs}

    def submit(self, page: str, **more: Any) -> requests.Response:
        """Send the last form of a page of GitHub's."""
        target = html.unescape(re.findall(r'<form method="post" action="([^"]+)"', page)[-1])
        fields = self.fields(page[page.rindex("<form method=") :])
        return self.browser.post(target, data=fields, timeout=60, **more)

    def way_back(self, **fields: str) -> str:
        """Do everything up to GitHub's last redirect; return where it leads."""
        review = self.review(**fields).text
        confirm = self.submit(review).text
        target = re.findall(r'<form method="post" action="([^"]+)"', confirm)[-1]
        answer = self.browser.post(
            self.github + target, data=self.fields(confirm), timeout=60, allow_redirects=False
        )
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        simulator.post("/settings", local_hooks=True, viewer="ada")
        yield simulator
        problems = judge_exchanges(simulator.exchanges.read_text("utf-8").splitlines())
        problems += judge_deliveries(simulator.sim("GET", "/deliveries"))
        assert problems == []


@pytest.fixture(scope="module")
def server(github: GithubSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    programs = Programs(folder / "logs")
    settings = {
        "CYNTHUS_GITHUB_API_URL": github.api_url,
        "CYNTHUS_GITHUB_WRITE_SPACING": "0.01",
        "CYNTHUS_OIDC_ISSUER": f"{github.url}/oidc",
        "CYNTHUS_LOG_LEVEL": "DEBUG",
    }
    server = Server(programs, folder / "state", settings=settings)
    try:
        server.start()
        yield server
    finally:
        programs.stop()


@pytest.fixture(scope="module")
def operator(server: Server, github: GithubSimulator) -> Operator:
    operator = Operator(server, requests.Session(), github.url)
    operator.sign_in()
    return operator


@dataclass(frozen=True)
class Served:
    """A server that was made the back end of an App, which is installed on one repository."""

    server: Server
    operator: Operator
    github: GithubSimulator
    app_id: int


@pytest.fixture(scope="module")
def served(operator: Operator, github: GithubSimulator) -> Served:
    github.post("/repos", owner="ada", name="digits", open=True)
    process = operator.server.program
    assert process is not None
    back = operator.way_back(name="Of its own")
    done = operator.browser.get(back, timeout=60)
    operator.seen.append(done.text)
    assert "Of its own is set up" in done.text
    until(lambda: operator.page("/setup").text, "Nowhere yet")
    assert process.running  # the same process, at the same address
    form = {"repo": "digits"}
    operator.browser.post(f"{github.url}/apps/of-its-own/installations", data=form, timeout=60)
    # The way back is good once, and says no more than that there is an App.
    again = operator.browser.get(back, timeout=60)
    operator.seen.append(again.text)
    assert "Of its own is set up" in again.text
    return Served(operator.server, operator, github, newest_app(github))


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


def keys_of_the_app(github: GithubSimulator) -> dict[str, Any]:
    """Return what GitHub handed out last."""
    seen = [json.loads(line) for line in github.exchanges.read_text().splitlines()]
    made = [one for one in seen if one["path"].startswith("/app-manifests/")]
    found: dict[str, Any] = made[-1]["response"]
    return found


def app_call(github: GithubSimulator) -> Callable[..., requests.Response]:
    """Return what calls GitHub as the App itself."""
    keys = keys_of_the_app(github)

    def call(method: str, path: str, body: Any = None) -> requests.Response:
        token = Auth.AppAuth(keys["id"], keys["pem"]).token
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{github.api_url}{path}"
        return requests.request(method, url, headers=headers, json=body, timeout=60)

    return call


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


def findings(server: Server) -> dict[str, Finding]:
    """Return what the doctor found, by name; of several with one name the last."""
    view = Client(server.url, server.api_token).doctor()
    return {finding.name: finding for finding in view.findings}


def test_an_empty_server_serves_its_app_without_a_restart(served: Served) -> None:
    until(lambda: str(answered(served.github, served.app_id)), "'installation': 202")
    page = served.operator.page("/setup").text
    assert "works" in page
    assert '<td class="num">1</td>' in page


def test_the_doctor_finds_a_served_app_well(served: Served) -> None:
    found = findings(served.server)
    assert {name for name, one in found.items() if one.verdict is not Verdict.OK} == {
        "public address"  # of this machine: nothing outside could reach it
    }
    assert found["installations"].found == "ada: 1 repositories"
    assert "arrived" in found["webhook delivery"].found
    assert found["clock"].found.endswith("between this clock and GitHub's")


def test_a_permission_that_an_owner_took_back_is_told_with_the_place_to_give_it(
    served: Served,
) -> None:
    github = served.github
    [installation] = [one["id"] for one in app_call(github)("GET", "/app/installations").json()]
    rights = {need.permission: need.level for need in NEEDS}
    few = rights | {"checks": "read", "contents": "read"}
    github.sim("PATCH", f"/installations/{installation}", {"permissions": few})
    try:
        finding = findings(served.server)["installations"]
        page = served.operator.page("/setup").text
    finally:
        github.sim("PATCH", f"/installations/{installation}", {"permissions": rights})
    assert finding.verdict is Verdict.FAIL
    assert "cannot write check runs" in finding.found
    assert f"{github.url}/settings/installations/{installation}" in finding.remedy
    assert "does not work" in page
    assert "cannot make releases" in page


@pytest.mark.parametrize(
    ("change", "settings", "remedy"),
    [
        ({"url": "{server}/elsewhere"}, "Write {server}/webhooks/github", "DNS, firewall"),
        ({"secret": "another secret than the server's"}, "", "webhook secret"),
    ],
)
def test_a_webhook_that_cannot_be_taken_is_told_with_what_differs(
    served: Served, change: dict[str, str], settings: str, remedy: str
) -> None:
    call = app_call(served.github)
    right = {"url": f"{served.server.url}/webhooks/github"}
    right["secret"] = keys_of_the_app(served.github)["webhook_secret"]
    url = served.server.url
    call("PATCH", "/app/hook/config", {k: v.format(server=url) for k, v in change.items()})
    try:
        found = findings(served.server)
    finally:
        call("PATCH", "/app/hook/config", right)
    assert settings.format(server=url) in found["webhook settings"].remedy
    assert found["webhook delivery"].verdict is Verdict.FAIL
    assert remedy in found["webhook delivery"].remedy


def test_what_was_set_up_outlives_the_server_and_none_of_its_keys_is_written_in_the_open(
    served: Served,
) -> None:
    server, operator, github = served.server, served.operator, served.github
    assert server.program is not None
    server.program.stop()
    server.start()
    page = until(lambda: operator.page("/setup").text, "Of its own is set up")
    sources = [*files(server.state), *files(server.programs.folder)]
    sources += [(f"page {n}", text.encode()) for n, text in enumerate([*operator.seen, page])]
    secrets = handed_out(github)
    assert len(secrets) > 20  # a key has as many lines
    assert hits(secrets, sources) == []


@pytest.mark.postgres
def test_doors_and_loops_apart_both_take_the_app_up(
    github: GithubSimulator, tmp_path: Path
) -> None:
    with a_server() as postgres:
        settings = {
            "CYNTHUS_DATABASE_URL": a_database(postgres),
            "CYNTHUS_GITHUB_API_URL": github.api_url,
        }
        programs = Programs(tmp_path / "logs")
        try:
            server = Server(programs, tmp_path / "state", settings=settings, role="api")
            server.start()
            words = [sys.executable, "-m", "webhook_server", "--role", "worker"]
            here = clean_environment(**settings, CYNTHUS_STATE_DIR=str(tmp_path / "state"))
            worker = programs.start("worker", words, environment=here)
            wait_until(lambda: "worker started" in worker.tail(), "the worker", worker)
            operator = Operator(server, requests.Session(), github.url)
            operator.sign_in()
            operator.browser.get(operator.way_back(name="Apart"), timeout=60)
            until(lambda: operator.page("/setup").text, "Nowhere yet")
            wait_until(lambda: worker.tail().count("worker started") == 2, "the worker", worker)
            assert "beginning anew" in worker.tail()
            assert worker.running
        finally:
            programs.stop()
