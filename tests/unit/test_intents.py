"""What a delivery asks for."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from webhook_server.delivery_reader import MAX_COMMITS, intent_of
from webhook_server.intents import (
    Cancel,
    Commented,
    Ignored,
    InstallationChanged,
    Person,
    Place,
    Pressed,
    PullEnded,
    PullRequest,
    ReleaseChanged,
    RepositoryChanged,
    Rerun,
    StartRun,
)

SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
REPOSITORY: dict[str, Any] = {
    "id": 1296269,
    "name": "Hello-World",
    "full_name": "octocat/Hello-World",
    "default_branch": "main",
    "owner": {"id": 1, "login": "octocat", "type": "User"},
    "pushed_at": 1_795_000_000,
}
SENDER = {"id": 1, "login": "octocat", "type": "User"}
COMMON: dict[str, Any] = {
    "repository": REPOSITORY,
    "installation": {"id": 5, "node_id": "x"},
    "sender": SENDER,
}
PLACE = Place(
    id=1296269,
    owner_id=1,
    full_name="octocat/Hello-World",
    default_branch="main",
    installation_id=5,
)
PERSON = Person(id=1, login="octocat", bot=False)
PUSH: dict[str, Any] = {
    **COMMON,
    "ref": "refs/heads/main",
    "before": "1" * 40,
    "after": SHA,
    "created": False,
    "deleted": False,
    "forced": False,
    "commits": [
        {"id": SHA, "added": ["a.py"], "removed": [], "modified": ["train.py", "a.py"]},
    ],
}
PULL: dict[str, Any] = {
    **COMMON,
    "action": "synchronize",
    "number": 7,
    "pull_request": {
        "number": 7,
        "state": "open",
        "draft": False,
        "updated_at": "2026-11-22T10:00:00Z",
        "user": {"id": 2, "login": "ada", "type": "User"},
        "head": {"sha": SHA, "ref": "patch-1", "repo": {"id": 1296269}},
        "base": {"ref": "main"},
    },
}
CHECK: dict[str, Any] = {
    **COMMON,
    "action": "rerequested",
    "check_run": {"id": 4, "head_sha": SHA, "external_id": "rabc123", "name": "cynthus/digits"},
}
BUTTON = {**CHECK, "action": "requested_action", "requested_action": {"identifier": "cancel"}}
APPROVAL = {
    **CHECK,
    "action": "requested_action",
    "requested_action": {"identifier": "approve"},
    "check_run": {**CHECK["check_run"], "external_id": "pull/1296269/7"},
}
COMMENT: dict[str, Any] = {
    **COMMON,
    "action": "created",
    "issue": {"number": 7, "state": "open", "pull_request": {"url": "x"}},
    "comment": {
        "id": 99,
        "body": "Looks right.\r\n/cynthus run gpu=l4",
        "created_at": "2026-11-22T10:00:05Z",
        "user": {**SENDER},
        "author_association": "NONE",
    },
}
AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
SUITE: dict[str, Any] = {
    **COMMON,
    "action": "rerequested",
    "check_suite": {"id": 9, "head_sha": SHA},
}
RENAMED: dict[str, Any] = {
    **COMMON,
    "action": "renamed",
    "changes": {"repository": {"name": {"from": "Old"}}},
}
INSTALLED: dict[str, Any] = {
    "action": "created",
    "installation": {"id": 5, "created_at": 1_700_000_000},
    "repositories": [{"id": 1296269, "full_name": "octocat/Hello-World"}],
    "sender": SENDER,
}
CHANGED_LIST: dict[str, Any] = {
    "action": "removed",
    "installation": {"id": 5},
    "repositories_added": [],
    "repositories_removed": [{"id": 1296269}],
    "sender": SENDER,
}
RELEASED: dict[str, Any] = {
    **COMMON,
    "action": "unpublished",
    "release": {"id": 3, "tag_name": "cynthus/digits/1", "draft": True},
}
SAMPLES: dict[str, dict[str, Any]] = {
    "push": PUSH,
    "pull_request": PULL,
    "issue_comment": COMMENT,
    "check_run": CHECK,
    "check_suite": SUITE,
    "release": RELEASED,
    "repository": RENAMED,
    "installation": INSTALLED,
    "installation_repositories": CHANGED_LIST,
}
WANTED: list[tuple[str, dict[str, Any], Any]] = [
    (
        "push",
        PUSH,
        StartRun(
            place=PLACE,
            branch="main",
            sha=SHA,
            changed=("a.py", "train.py"),
            pushed_at=datetime.fromtimestamp(1_795_000_000, UTC),
        ),
    ),
    (
        "pull_request",
        PULL,
        PullRequest(
            place=PLACE,
            number=7,
            sha=SHA,
            head_repository_id=1296269,
            sender=PERSON,
            at=AT,
            author="ada",
        ),
    ),
    (
        "pull_request",
        {**PULL, "action": "closed", "pull_request": {**PULL["pull_request"], "state": "closed"}},
        PullEnded(place=PLACE, number=7, sha=SHA, drafted=False),
    ),
    (
        "pull_request",
        {**PULL, "action": "converted_to_draft"},
        PullEnded(place=PLACE, number=7, sha=SHA, drafted=True),
    ),
    (
        "issue_comment",
        COMMENT,
        Commented(
            place=PLACE,
            number=7,
            comment_id=99,
            body="Looks right.\r\n/cynthus run gpu=l4",
            created_at=AT + timedelta(seconds=5),
            sender=PERSON,
        ),
    ),
    (
        "check_run",
        CHECK,
        Rerun(
            place=PLACE,
            sha=SHA,
            check_run_id=4,
            check_suite_id=None,
            run_id="rabc123",
            sender=PERSON,
        ),
    ),
    (
        "check_run",
        BUTTON,
        Cancel(place=PLACE, sha=SHA, check_run_id=4, run_id="rabc123", sender=PERSON),
    ),
    (
        "check_run",
        APPROVAL,
        Pressed(
            place=PLACE,
            sha=SHA,
            check_run_id=4,
            identifier="approve",
            external_id="pull/1296269/7",
            sender=PERSON,
        ),
    ),
    (
        "check_suite",
        SUITE,
        Rerun(
            place=PLACE, sha=SHA, check_run_id=None, check_suite_id=9, run_id=None, sender=PERSON
        ),
    ),
    (
        "release",
        RELEASED,
        ReleaseChanged(place=PLACE, release_id=3, what="unpublished", sender=PERSON),
    ),
    (
        "release",
        {**RELEASED, "action": "deleted", "sender": None},
        ReleaseChanged(place=PLACE, release_id=3, what="deleted", sender=None),
    ),
    ("repository", RENAMED, RepositoryChanged(place=PLACE, gone=False)),
    ("repository", {**RENAMED, "action": "deleted"}, RepositoryChanged(place=PLACE, gone=True)),
    (
        "installation",
        INSTALLED,
        InstallationChanged(installation_id=5, gone=False, removed=(), added=(1296269,)),
    ),
    (
        "installation",
        {**INSTALLED, "action": "deleted"},
        InstallationChanged(installation_id=5, gone=True, removed=(), added=(1296269,)),
    ),
    (
        "installation_repositories",
        CHANGED_LIST,
        InstallationChanged(installation_id=5, gone=False, removed=(1296269,), added=()),
    ),
]


@pytest.mark.parametrize(("event", "payload", "intent"), WANTED)
def test_a_delivery_is_understood(event: str, payload: dict[str, Any], intent: Any) -> None:
    assert intent_of(event, payload) == intent


def with_value(payload: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(payload)
    parent = changed
    *folders, last = path.split("/")
    for name in folders:
        parent = parent[name]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return changed


NOTHING: list[tuple[str, dict[str, Any]]] = [
    ("push", with_value(PUSH, "deleted", True)),
    ("push", with_value(PUSH, "after", "0" * 40)),
    ("push", with_value(PUSH, "after", SHA[:7])),
    ("push", with_value(PUSH, "after", "--upload-pack=x".ljust(40))),
    ("push", with_value(PUSH, "ref", "refs/tags/v1")),
    ("push", with_value(PUSH, "ref", "refs/heads/" + "x" * 300)),
    ("push", with_value(PUSH, "ref", "refs/heads/a\x00b")),
    ("push", with_value(PUSH, "ref", "refs/heads/\ud800")),
    ("push", with_value(PUSH, "repository/id", 2**65)),
    ("push", with_value(PUSH, "repository/id", True)),
    ("push", with_value(PUSH, "repository/id", "1296269")),
    ("push", with_value(PUSH, "repository/full_name", "../..//x")),
    ("push", with_value(PUSH, "repository/owner", None)),
    ("pull_request", with_value(PULL, "action", "labeled")),
    ("pull_request", with_value(PULL, "action", 7)),
    ("pull_request", with_value(PULL, "pull_request/state", "closed")),
    ("check_run", with_value(CHECK, "action", "created")),
    ("check_run", with_value(BUTTON, "requested_action/identifier", "launch")),
    ("check_run", with_value(BUTTON, "requested_action", None)),
    ("check_run", with_value(CHECK, "sender", None)),
    ("check_suite", with_value(SUITE, "action", "requested")),
    ("check_suite", with_value(SUITE, "action", "completed")),
    ("release", with_value(RELEASED, "action", "published")),
    ("release", with_value(RELEASED, "action", "edited")),
    ("release", with_value(RELEASED, "release/id", "3")),
    ("repository", with_value(RENAMED, "action", "starred")),
    ("star", PUSH),
    ("issue_comment", PUSH),
    ("issue_comment", with_value(COMMENT, "action", "edited")),
    ("issue_comment", with_value(COMMENT, "action", "deleted")),
    ("issue_comment", with_value(COMMENT, "issue/pull_request", ...)),
    ("issue_comment", with_value(COMMENT, "issue/pull_request", None)),
    ("issue_comment", with_value(COMMENT, "issue/number", 2**63)),
    ("issue_comment", with_value(COMMENT, "comment/body", "Please say /cynthus run")),
    ("issue_comment", with_value(COMMENT, "comment/body", "/cynthusrun")),
    ("issue_comment", with_value(COMMENT, "comment/body", None)),
    ("issue_comment", with_value(COMMENT, "comment/created_at", "soon")),
    ("issue_comment", with_value(COMMENT, "comment/user", None)),
    ("issue_comment", with_value(COMMENT, "comment/user/id", 2)),
    ("issue_comment", with_value(COMMENT, "sender", None)),
    ("check_run", with_value(APPROVAL, "requested_action/identifier", "lgtm|26764")),
    ("check_run", with_value(APPROVAL, "check_run/external_id", "pull/0/7")),
    ("check_run", with_value(APPROVAL, "check_run/external_id", "pull/1/7/../8")),
    ("check_run", with_value(APPROVAL, "check_run/external_id", "")),
    ("", PUSH),
]


@pytest.mark.case("W16")
@pytest.mark.parametrize(("event", "payload"), NOTHING)
def test_what_asks_for_nothing_is_ignored_with_a_reason(event: str, payload: Any) -> None:
    intent = intent_of(event, payload)
    assert isinstance(intent, Ignored)
    assert intent.reason


MISNAMED = [(name, other) for name in SAMPLES for other in SAMPLES if name != other]


@pytest.mark.case("W9")
@pytest.mark.parametrize(("name", "other"), MISNAMED)
def test_w9_a_signed_body_under_another_event_name_has_no_effect(name: str, other: str) -> None:
    assert isinstance(intent_of(other, SAMPLES[name]), Ignored)


@pytest.mark.parametrize(
    "change",
    [
        ("created", True),
        ("forced", True),
        ("commits", None),
        ("commits", [{}] * MAX_COMMITS),
        ("commits", [None]),
        ("commits", [{"added": [1], "removed": [], "modified": []}]),
    ],
)
def test_what_a_push_changes_may_be_unknown(change: tuple[str, Any]) -> None:
    intent = intent_of("push", with_value(PUSH, *change))
    assert isinstance(intent, StartRun)
    assert intent.changed is None


@pytest.mark.case("W15")
def test_a_deleted_fork_and_a_deleted_account_are_ordinary() -> None:
    payload = with_value(PULL, "pull_request/head/repo", None)
    intent = intent_of("pull_request", with_value(payload, "sender", None))
    assert isinstance(intent, PullRequest)
    assert intent.head_repository_id is None
    assert intent.sender is None


def test_a_bot_is_known_as_one() -> None:
    payload = with_value(CHECK, "sender", {"id": 3, "login": "dependabot[bot]", "type": "Bot"})
    intent = intent_of("check_run", payload)
    assert isinstance(intent, Rerun)
    assert intent.sender.bot


@pytest.mark.parametrize("identifier", ["extend", "retry_on_demand", "approve", "logs"])
def test_every_button_of_ours_is_known(identifier: str) -> None:
    payload = with_value(BUTTON, "requested_action/identifier", identifier)
    intent = intent_of("check_run", payload)
    assert isinstance(intent, Pressed)
    assert (intent.identifier, intent.external_id) == (identifier, "rabc123")
    assert intent.key == f"{identifier}/1296269/check_run/4/{SHA}"
    assert len(identifier) <= 20  # GitHub's limit of an identifier


def test_a_draft_that_is_ready_is_looked_at_like_a_new_head() -> None:
    intent = intent_of("pull_request", with_value(PULL, "action", "ready_for_review"))
    assert isinstance(intent, PullRequest)
    draft = intent_of("pull_request", with_value(PULL, "pull_request/draft", True))
    assert isinstance(draft, PullRequest)
    assert (intent.draft, draft.draft) == (False, True)


def test_what_is_not_known_of_a_pull_request_is_left_out() -> None:
    payload = with_value(PULL, "pull_request/user", None)
    intent = intent_of("pull_request", with_value(payload, "pull_request/updated_at", "later"))
    assert isinstance(intent, PullRequest)
    assert (intent.at, intent.author) == (None, "")


def test_closed_and_locked_pull_requests_are_judged_later() -> None:
    payload = with_value(COMMENT, "issue/state", "closed")
    intent = intent_of("issue_comment", with_value(payload, "issue/locked", True))
    assert isinstance(intent, Commented)
    assert intent.key == "comment/1296269/99"


def test_the_key_is_the_meaning() -> None:
    intent = intent_of("check_run", CHECK)
    assert isinstance(intent, Rerun)
    assert intent.key == f"rerun/1296269/check_run/4/{SHA}"
    suite = intent_of("check_suite", SUITE)
    assert isinstance(suite, Rerun)
    assert suite.key == f"rerun/1296269/check_suite/9/{SHA}"


def test_an_external_id_that_is_not_ours_is_no_run_id() -> None:
    intent = intent_of("check_run", with_value(CHECK, "check_run/external_id", "x'; DROP"))
    assert isinstance(intent, Rerun)
    assert intent.run_id is None


def paths(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    found = []
    for name, item in value.items():
        found += [f"{prefix}{name}", *paths(item, f"{prefix}{name}/")]
    return found


EVERYTHING = [(event, path) for event, sample in SAMPLES.items() for path in paths(sample)]
ODD: list[Any] = [..., None, "", "x", 0, -1, 2**65, 1.5, True, [], [None], {}, {"id": None}]


@pytest.mark.case("W15")
@pytest.mark.parametrize(("event", "path"), EVERYTHING)
def test_w15_any_member_may_be_missing_null_or_of_another_type(event: str, path: str) -> None:
    for value in ODD:
        intent_of(event, with_value(SAMPLES[event], path, value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.case("W14")
@settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(target=st.sampled_from(EVERYTHING), value=JSON)
def test_no_payload_makes_it_raise(target: tuple[str, str], value: Any) -> None:
    event, path = target
    intent_of(event, with_value(SAMPLES[event], path, value))
    intent_of(event, value)
