"""The judge must be able to say no."""

from __future__ import annotations

import json

import pytest

from tests.contract.github_description import EXAMPLES, description

GOOD_TOKEN = {"token": "ghs_x", "expires_at": "2026-11-22T06:00:00Z"}
TOKENS = "/app/installations/1/access_tokens"


def test_an_exchange_that_github_describes_is_accepted() -> None:
    assert description().check_exchange("POST", TOKENS, {}, 201, GOOD_TOKEN) == []


@pytest.mark.parametrize(
    ("asked", "request_json", "status", "response_json", "words"),
    [
        ("GET /repos/a/b/nowhere", None, 200, {}, "no such operation"),
        (f"POST {TOKENS}", {}, 201, {"token": 1, "expires_at": ""}, "/token: 1 is not of type"),
        (f"POST {TOKENS}", {}, 201, {"token": "x"}, "'expires_at' is a required property"),
        (f"POST {TOKENS}", {"permissions": {"checks": "own"}}, 201, GOOD_TOKEN, "request"),
        (f"POST {TOKENS}", {}, 204, None, "status is not among"),
        ("POST /repos/a/b/check-runs", None, 201, None, "the body is missing"),
        ("GET /app/installations?nonsense=1", None, 200, [], "the query has no 'nonsense'"),
    ],
)
def test_what_github_does_not_describe_is_refused_with_its_place(
    asked: str, request_json: object, status: int, response_json: object, words: str
) -> None:
    method, path = asked.split()
    found = description().check_exchange(method, path, request_json, status, response_json)
    assert any(words in problem for problem in found)


def test_a_path_with_many_segments_finds_its_operation() -> None:
    found = description().operation("GET", "/repos/a/b/contents/x/y/z.txt")
    assert found is not None
    assert found.template == "/repos/{owner}/{repo}/contents/{path}"


def test_a_literal_path_wins_over_a_parameter() -> None:
    found = description().operation("GET", "/repos/a/b/releases/latest")
    assert found is not None
    assert found.template == "/repos/{owner}/{repo}/releases/latest"


def test_webhooks_that_github_recorded_pass_and_a_broken_one_does_not() -> None:
    judge = description()
    examples = {e["name"]: e["examples"] for e in json.loads(EXAMPLES.read_text())}
    pings = [judge.check_webhook("check_run", payload) for payload in examples["check_run"]]
    assert [] in pings
    broken = {**examples["push"][0], "commits": "none"}
    assert any("/commits" in problem for problem in judge.check_webhook("push", broken))
    assert judge.check_webhook("no_such_event", {}) != []
