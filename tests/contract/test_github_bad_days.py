"""Faults on demand, limits, crashes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from github import GithubException, GithubRetry

from demo.processes import wait_until
from tests.contract.conftest import Town, settle
from tests.github_fixture import GithubSimulator, WebhookSink, git, webhook_sink

CREATE = {"match": {"method": "POST", "path": "/check-runs$"}}


def _run(town: Town, **more: Any) -> requests.Response:
    body = {"name": "cynthus", "head_sha": town.sha} | more
    return town.repo_call("POST", "/check-runs", body)


def _count(town: Town) -> int:
    found: int = town.repo_call("GET", f"/commits/{town.sha}/check-runs").json()["total_count"]
    return found


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503])
def test_an_error_strikes_as_often_as_told_and_has_no_effect(town: Town, status: int) -> None:
    headers = {"Retry-After": "7"}
    town.github.post("/faults", **CREATE, status=status, times=2, headers=headers)
    answers = [_run(town) for _ in range(3)]
    assert [a.status_code for a in answers] == [status, status, 201]
    assert answers[0].headers["retry-after"] == "7"
    assert _count(town) == 1
    assert town.github.sim("GET", "/faults")[-1]["struck"] == 2


def test_a_lost_answer_has_had_its_effect(town: Town) -> None:
    town.github.post("/faults", **CREATE, kind="drop_answer")
    with pytest.raises(requests.ConnectionError):
        _run(town, external_id="once")
    assert _count(town) == 1


def test_a_hanging_request_is_given_up_by_the_client(town: Town) -> None:
    town.github.post("/faults", match={"path": "/rate_limit"}, kind="hang", delay_s=60)
    with pytest.raises(requests.Timeout):
        requests.get(f"{town.github.api_url}/rate_limit", timeout=0.5)
    assert requests.get(f"{town.github.api_url}/rate_limit", timeout=60).ok


def test_answers_can_be_cut_in_the_middle_or_be_html(town: Town) -> None:
    town.github.post("/faults", **CREATE, kind="truncated_json")
    with pytest.raises(requests.JSONDecodeError):
        _run(town).json()
    town.github.post("/faults", **CREATE, kind="html", status=200)
    assert "<html>" in _run(town).text
    assert _count(town) == 1


def test_a_failed_upload_leaves_a_starter_asset_that_must_be_deleted(town: Town) -> None:
    release = town.repo_call("POST", "/releases", {"tag_name": "v1", "draft": True}).json()
    town.github.post("/faults", match={"path": "/uploads/"}, kind="starter")
    url = f"{release['upload_url'].partition('{')[0]}?name=model"
    sent = [town.call("POST", url, town.token(), b"x", Content_Type="text/plain") for _ in "12"]
    assert [answer.status_code for answer in sent] == [502, 422]
    (asset,) = town.repo_call("GET", f"/releases/{release['id']}/assets").json()
    assert (asset["state"], asset["size"], asset["digest"]) == ("starter", 0, None)
    assert town.repo_call("DELETE", f"/releases/assets/{asset['id']}").status_code == 204
    again = town.call("POST", url, town.token(), b"x", Content_Type="text/plain")
    assert again.json()["state"] == "uploaded"


def test_pygithub_s_default_retry_repeats_a_creation(town: Town) -> None:
    """The trap that our own client must avoid is really there."""
    town.github.post("/faults", **CREATE, kind="error", status=502, times=-1)
    repo = town.client().get_repo(town.name)
    with pytest.raises(GithubException):
        repo.create_check_run("cynthus", town.sha)
    careless = town.client(retry=GithubRetry(total=3)).get_repo(town.name)
    with pytest.raises(requests.exceptions.RetryError):
        careless.create_check_run("cynthus", town.sha)
    assert town.github.sim("GET", "/faults")[-1]["struck"] == 5


@pytest.fixture
def limited(town: Town) -> Iterator[Town]:
    """A town where the limits are put back afterwards."""
    before = town.github.post("/limits")
    yield town
    town.github.post("/limits", **before)


def test_the_hour_s_budget_ends_and_comes_back(limited: Town) -> None:
    limited.github.post("/limits", installation=3)
    token = limited.token()
    path = f"/repos/{limited.name}"
    answers = [limited.call("GET", path, token) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 403]
    headers = answers[-1].headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("3", "0")
    assert "retry-after" not in headers
    said = answers[-1].json()["message"]
    assert said == f"API rate limit exceeded for installation ID {limited.installation_id}."
    free = limited.call("GET", "/rate_limit", token).json()
    assert free["resources"]["core"]["remaining"] == 0
    limited.github.post("/clock", advance_s=3601)
    try:
        assert limited.call("GET", path, limited.token()).status_code == 200
    finally:
        limited.github.post("/clock", shift_s=0)


def test_five_points_a_write_are_counted_in_a_minute(limited: Town) -> None:
    limited.github.post("/limits", points_per_minute=16)
    token = limited.token()
    path = f"/repos/{limited.name}"
    body = {"name": "c", "head_sha": limited.sha}
    codes = [limited.call("POST", f"{path}/check-runs", token, body) for _ in range(3)]
    assert [answer.status_code for answer in codes] == [201, 201, 201]
    assert limited.call("GET", path, token).status_code == 200  # the sixteenth point
    refused = limited.call("GET", path, token)
    assert (refused.status_code, refused.headers["retry-after"]) == (403, "60")
    assert "secondary rate limit" in refused.json()["message"]


def test_comments_and_releases_are_content_and_check_runs_are_not(limited: Town) -> None:
    limited.github.post("/limits", content_per_minute=2)
    limited.github.post("/issues", repo=limited.name)
    token = limited.token()
    path = f"/repos/{limited.name}"
    comments = f"{path}/issues/1/comments"
    codes = [limited.call("POST", comments, token, {"body": "x"}).status_code for _ in range(3)]
    assert codes == [201, 201, 403]
    assert _run(limited).status_code == 201


def test_more_than_a_hundred_at_once_are_refused(limited: Town) -> None:
    limited.github.post("/limits", concurrent=2)
    limited.github.post("/faults", match={"path": "/versions"}, kind="hang", delay_s=60, times=2)
    door = urlsplit(limited.github.api_url)

    def struck() -> int:
        return sum(fault["struck"] for fault in limited.github.sim("GET", "/faults"))

    before = struck()
    with ExitStack() as stack:
        for _ in range(2):  # they hang until we hang up
            connection = socket.create_connection((str(door.hostname), door.port or 0), 60)
            stack.enter_context(connection)
            ask = f"GET {door.path}/versions HTTP/1.1\r\nHost: {door.netloc}\r\n\r\n"
            connection.sendall(ask.encode())
        wait_until(lambda: struck() == before + 2, "both requests")
        answer = requests.get(f"{limited.github.api_url}/meta", timeout=60)
    assert answer.status_code == 403
    assert answer.headers["retry-after"] == "60"


def test_requests_are_logged_with_who_made_them(town: Town) -> None:
    last = town.github.sim("GET", "/requests")[-1]["id"]
    town.repo_call("GET", "/branches")
    made, listed = town.github.sim("GET", f"/requests?after={last}")
    assert (made["method"], made["status"], made["token_kind"]) == ("POST", 201, "app")
    assert (listed["path"], listed["token_kind"]) == (
        f"/repos/{town.name}/branches",
        "installation",
    )
    assert listed["installation_id"] == town.installation_id


def test_everything_survives_kill_9(tmp_path: Path) -> None:
    simulator = GithubSimulator(tmp_path / "state")
    simulator.start()
    try:
        with webhook_sink() as sink:
            town = settle(simulator, sink, tmp_path / "work")
            run = _run(town).json()
            release = town.repo_call("POST", "/releases", {"tag_name": "v1"}).json()
            upload = f"{release['upload_url'].partition('{')[0]}?name=model"
            town.call("POST", upload, town.token(), b"weights", Content_Type="text/plain")
            simulator.kill()
            simulator.start()
            assert _count(town) == 1
            assert town.repo_call("GET", f"/check-runs/{run['id']}").json()["name"] == "cynthus"
            (asset,) = town.repo_call("GET", f"/releases/{release['id']}").json()["assets"]
            got = requests.get(asset["browser_download_url"], timeout=60)
            assert got.content == b"weights"
            assert git(town.folder, "ls-remote", simulator.git_url(town.name), "v1") != ""
            assert town.push({"after": "1"}) == town.sink.wait_for("push").payload["after"]
    finally:
        simulator.stop()


def test_a_delivery_waiting_at_the_crash_is_sent_after_it(tmp_path: Path) -> None:
    simulator = GithubSimulator(tmp_path / "state")
    simulator.start()
    try:
        with webhook_sink() as sink:
            town = settle(simulator, sink, tmp_path / "work")
            fault = {"kind": "webhook_delay", "match": {"event": "push"}, "delay_s": 3600}
            simulator.post("/faults", **fault)
            head = town.push({"a": "1"})
            simulator.kill()
            simulator.start()
            simulator.post("/clock", advance_s=3601)
            _wait_for_push(sink, head)
    finally:
        simulator.stop()


def test_a_push_that_a_crash_came_after_is_told_at_the_next_start(tmp_path: Path) -> None:
    simulator = GithubSimulator(tmp_path / "state")
    simulator.start()
    try:
        with webhook_sink() as sink:
            town = settle(simulator, sink, tmp_path / "work")
            simulator.kill()
            # What git had written when the process died: the ref moved, nothing else happened.
            git(town.folder, "commit", "--quiet", "--allow-empty", "-m", "Late")
            bare = tmp_path / "state/git" / f"{town.repo_id}.git"
            git(town.folder, "push", "--quiet", str(bare), "HEAD:main")
            simulator.start()
            _wait_for_push(sink, git(town.folder, "rev-parse", "HEAD"))
    finally:
        simulator.stop()


def _wait_for_push(sink: WebhookSink, head: str) -> None:
    """Wait for the push; a delivery whose answer the crash swallowed comes a second time."""
    while sink.wait_for("push").payload["after"] != head:
        pass
