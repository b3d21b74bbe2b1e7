"""What the App asks of GitHub is what the server uses, and what is lacking is told in words."""

from __future__ import annotations

import pytest

from webhook_server.app_needs import EVENTS, NEEDS, lacks, manifest, web_url
from webhook_server.delivery_reader import _READERS

ALL = {need.permission: need.level for need in NEEDS}
UNASKED = {"installation", "installation_repositories"}


def test_the_app_asks_for_every_event_that_the_inbox_reads() -> None:
    assert set(_READERS) - UNASKED <= set(EVENTS)
    assert not UNASKED & set(EVENTS)


def test_the_app_cannot_change_workflows() -> None:
    asked = manifest("cynthus", "https://cynthus.example")
    assert "workflows" not in asked["default_permissions"]
    assert asked["public"] is False
    assert asked["hook_attributes"]["url"] == "https://cynthus.example/webhooks/github"


def test_nothing_lacks_where_all_is_granted_or_more() -> None:
    assert lacks({**ALL, "checks": "admin", "actions": "read"}, [*EVENTS, "watch"]) == ()


@pytest.mark.parametrize(
    ("change", "words", "blocks"),
    [
        ({"checks": "read"}, "cannot write check runs (permission checks: write)", True),
        ({"contents": "read"}, "cannot make releases, cannot ask for images to be built", False),
        ({"contents": "none"}, "cannot read cynthus.yaml", True),
        ({"issues": "odd"}, "cannot react to comments", True),
    ],
)
def test_what_is_lacking_is_told_by_what_cannot_be_done(
    change: dict[str, str], words: str, blocks: bool
) -> None:
    [lack] = lacks({**ALL, **change}, EVENTS)
    assert lack.text.startswith(words)
    assert lack.blocks is blocks


def test_events_that_do_not_come_are_told_after_what_weighs_more() -> None:
    found = lacks({**ALL, "checks": "none"}, [event for event in EVENTS if event != "release"])
    assert [lack.blocks for lack in found] == [True, False]
    assert found[1].text == "does not send release"


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("https://github.acme.example/api/v3", "https://github.acme.example"),
        ("http://127.0.0.1:9021/api", "http://127.0.0.1:9021"),
    ],
)
def test_people_meet_github_where_its_api_says(api_url: str, expected: str) -> None:
    assert web_url(api_url) == expected
