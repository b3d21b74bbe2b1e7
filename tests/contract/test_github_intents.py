"""What GitHub recorded is understood: its own example payloads, from npm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.github_description import EXAMPLES, fetch
from webhook_server.delivery_reader import intent_of
from webhook_server.intents import Commented, Ignored, Pressed, PullEnded, PullRequest, Rerun

Payloads = dict[str, Sequence[dict[str, Any]]]


@pytest.fixture
def recorded() -> Payloads:
    fetch()
    return {event["name"]: event["examples"] for event in json.loads(EXAMPLES.read_text())}


def kinds(recorded: Payloads, event: str) -> dict[str, set[type]]:
    found: dict[str, set[type]] = {}
    for payload in recorded[event]:
        found.setdefault(payload["action"], set()).add(type(intent_of(event, payload)))
    return found


def test_pull_requests_begin_and_end(recorded: Payloads) -> None:
    found = kinds(recorded, "pull_request")
    for action in ("opened", "reopened", "synchronize", "ready_for_review"):
        assert found.pop(action) == {PullRequest}, action
    for action in ("closed", "converted_to_draft"):
        assert found.pop(action) == {PullEnded}, action
    assert set().union(*found.values()) == {Ignored}


def test_a_pull_request_says_whose_it_is_and_since_when(recorded: Payloads) -> None:
    opened = next(p for p in recorded["pull_request"] if p["action"] == "opened")
    intent = intent_of("pull_request", opened)
    assert isinstance(intent, PullRequest)
    assert (intent.author, intent.draft) == ("Codertocat", False)
    assert intent.at == datetime(2019, 5, 15, 15, 20, 33, tzinfo=UTC)


def test_comments_at_issues_ask_for_nothing(recorded: Payloads) -> None:
    found = kinds(recorded, "issue_comment")
    assert set(found) == {"created", "deleted", "edited"}
    assert set().union(*found.values()) == {Ignored}


def test_a_new_comment_at_a_pull_request_is_read(recorded: Payloads) -> None:
    # GitHub recorded comments at issues only; at a pull request this one member is there too.
    for payload in recorded["issue_comment"]:
        payload["issue"]["pull_request"] = {"url": "https://api.github.com/repos/a/b/pulls/1"}
        payload["comment"]["body"] = "/cynthus run"
    new = next(p for p in recorded["issue_comment"] if p["action"] == "created")
    intent = intent_of("issue_comment", new)
    assert isinstance(intent, Commented)
    assert intent.created_at == datetime(2019, 5, 15, 15, 20, 21, tzinfo=UTC)
    assert (intent.sender.login, intent.sender.bot) == ("Codertocat", False)
    found = kinds(recorded, "issue_comment")
    assert found == {"created": {Commented}, "deleted": {Ignored}, "edited": {Ignored}}


def test_buttons_of_other_apps_are_left_alone_and_ours_are_read(recorded: Payloads) -> None:
    found = kinds(recorded, "check_run")
    assert found["requested_action"] == {Ignored}
    assert found["rerequested"] == {Rerun}
    pressed = next(p for p in recorded["check_run"] if p["action"] == "requested_action")
    pressed["requested_action"]["identifier"] = "approve"
    pressed["check_run"]["external_id"] = "rabc123"
    assert isinstance(intent_of("check_run", pressed), Pressed)
