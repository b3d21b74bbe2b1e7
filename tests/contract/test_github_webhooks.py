"""Deliveries: order, failure, the log, redelivery."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.contract.conftest import Town, settle
from tests.github_fixture import SECRET, Delivery, GithubSimulator, webhook_sink

_LOG = "/app/hook/deliveries"


def _deliveries(town: Town, query: str = "") -> list[dict[str, object]]:
    found: list[dict[str, object]] = town.call("GET", f"{_LOG}{query}", town.jwt()).json()
    return found


def _finished(town: Town, guid: str) -> dict[str, object]:
    """Return a delivery from the log once it is there; the log is written after the answer."""
    tick = threading.Event()
    for _ in range(1200):  # a minute
        for delivery in _deliveries(town, "?per_page=100"):
            if delivery["guid"] == guid:
                return delivery
        tick.wait(0.05)
    raise AssertionError(f"{guid} never reached the log")


def test_a_delivery_carries_github_s_headers(town: Town) -> None:
    town.push({"a": "1"})
    headers = town.sink.wait_for("push").headers
    assert headers["user-agent"].startswith("GitHub-Hookshot/")
    assert headers["content-type"] == "application/json"
    assert headers["x-github-hook-installation-target-id"] == str(town.app.id)
    assert headers["x-github-hook-installation-target-type"] == "integration"
    assert headers["x-hub-signature"].startswith("sha1=")


def test_github_s_own_signature_vector_holds() -> None:
    known = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    delivery = Delivery(headers={"x-hub-signature-256": known}, body=b"Hello, World!")
    assert delivery.signed_with("It's a Secret to Everybody")


def test_a_refused_delivery_is_logged_not_repeated_and_redelivered_on_request(town: Town) -> None:
    town.sink.status = 500
    town.push({"a": "1"})
    refused = town.sink.wait_for("push")
    guid = refused.headers["x-github-delivery"]
    logged = _finished(town, guid)
    assert (logged["status_code"], logged["redelivery"]) == (500, False)
    failed = _deliveries(town, "?status=failure&per_page=100")
    assert guid in {d["guid"] for d in failed}
    assert all(d["status_code"] == 500 for d in failed)
    town.sink.status = 202
    path = f"{_LOG}/{logged['id']}"
    assert town.call("POST", f"{path}/attempts", town.jwt()).status_code == 202
    again = town.sink.wait_for("push")
    assert again.headers["x-github-delivery"] == guid
    assert again.body == refused.body
    whole = town.call("GET", path, town.jwt()).json()
    assert whole["request"]["payload"]["after"] == refused.payload["after"]


def test_the_log_is_paged_by_cursor_newest_first(town: Town) -> None:
    for n in range(3):
        town.push({"n": str(n)})
        _finished(town, town.sink.wait_for("push").headers["x-github-delivery"])
    seen: list[object] = []
    url = f"{_LOG}?per_page=2"
    while url:
        answer = town.call("GET", url, town.jwt())
        seen += [delivery["id"] for delivery in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) >= 7


def test_the_log_goes_back_three_days(github: GithubSimulator, tmp_path: Path) -> None:
    with webhook_sink() as sink:
        town = settle(github, sink, tmp_path / "work")
        assert _deliveries(town) != []
        github.post("/clock", advance_s=3 * 86400 + 60)
        try:
            assert _deliveries(town) == []
        finally:
            github.post("/clock", shift_s=0)


@pytest.mark.parametrize("kind", ["webhook_drop", "webhook_lose"])
def test_a_delivery_can_go_missing_with_or_without_a_trace(town: Town, kind: str) -> None:
    town.github.post("/faults", kind=kind, match={"event": "push"})
    town.push({"a": "1"})
    second = town.push({"a": "2"})
    assert town.sink.wait_for("push").payload["after"] == second
    events = [d["event"] for d in _deliveries(town, "?status=failure&per_page=100")]
    assert ("push" in events) is (kind == "webhook_drop")


def test_a_delivery_can_arrive_twice(town: Town) -> None:
    town.github.post("/faults", kind="webhook_duplicate", match={"event": "push"})
    town.push({"a": "1"})
    first, second = town.sink.wait_for("push"), town.sink.wait_for("push")
    assert first.headers["x-github-delivery"] == second.headers["x-github-delivery"]
    assert first.body == second.body


def test_deliveries_can_arrive_in_the_wrong_order(town: Town) -> None:
    town.github.post("/faults", kind="webhook_reorder", match={"event": "push"})
    first = town.push({"a": "1"})
    second = town.push({"a": "2"})
    order = [town.sink.wait_for("push").payload["after"] for _ in range(2)]
    assert sorted(order) == sorted([first, second])
    held = [d for d in town.github.sim("GET", "/faults") if d["struck"]]
    assert len(held) == 1


def test_a_delivery_can_be_late_by_the_simulator_s_clock(town: Town) -> None:
    fault = {"kind": "webhook_delay", "match": {"event": "push"}, "delay_s": 3600}
    town.github.post("/faults", **fault)
    late = town.push({"a": "1"})
    early = town.push({"a": "2"})
    assert town.sink.wait_for("push").payload["after"] == early
    town.github.post("/clock", advance_s=3601)
    try:
        assert town.sink.wait_for("push").payload["after"] == late
    finally:
        town.github.post("/clock", shift_s=0)


def test_buttons_and_re_runs_reach_the_app_that_owns_the_run(town: Town) -> None:
    button = {"label": "Cancel", "description": "Stop this run", "identifier": "cancel"}
    run = town.repo_call(
        "POST",
        "/check-runs",
        {"name": "c", "head_sha": town.sha, "conclusion": "failure", "actions": [button]},
    ).json()
    town.github.post(f"/check-runs/{run['id']}/press", identifier="cancel", user="ada")
    event = town.sink.wait_for("check_run.requested_action").payload
    assert event["requested_action"] == {"identifier": "cancel"}
    assert (event["sender"]["login"], event["check_run"]["id"]) == ("ada", run["id"])
    town.github.post(f"/check-runs/{run['id']}/press")
    event = town.sink.wait_for("check_run.rerequested").payload
    assert event["check_run"]["status"] == "completed"  # the run itself is left as it was
    assert event["check_run"]["check_suite"]["status"] == "queued"
    with pytest.raises(RuntimeError, match="no button"):
        town.github.post(f"/check-runs/{run['id']}/press", identifier="nothing")


def test_installations_and_repositories_tell_what_happens_to_them(town: Town) -> None:
    github, number = town.github, town.installation_id
    github.sim("PATCH", f"/repos/{town.name}", {"name": "renamed"})
    renamed = town.sink.wait_for("repository.renamed").payload
    assert renamed["changes"]["repository"]["name"]["from"] == "digits"
    assert renamed["repository"]["id"] == town.repo_id
    github.sim("PATCH", f"/installations/{number}", {"suspended": True})
    assert town.sink.wait_for("installation.suspend").payload["installation"]["suspended_at"]
    github.sim("PATCH", f"/installations/{number}", {"suspended": False})
    town.sink.wait_for("installation.unsuspend")
    github.sim("DELETE", f"/installations/{number}")
    town.sink.wait_for("installation.deleted")


def test_a_hook_s_address_and_secret_are_changed_by_the_app(town: Town) -> None:
    config = town.call("GET", "/app/hook/config", town.jwt()).json()
    assert (config["url"], config["secret"]) == (town.sink.url, "********")
    town.call("PATCH", "/app/hook/config", town.jwt(), {"secret": "another secret, as long"})
    town.push({"a": "1"})
    delivery = town.sink.wait_for("push")
    assert delivery.signed_with("another secret, as long")
    assert not delivery.signed_with(SECRET)
