"""People at pull requests: what they do, in which order, and what GitHub tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import Town


def a_pull(town: Town, **wish: Any) -> dict[str, Any]:
    """Open a pull request of a branch with one commit more."""
    town.push({"train.py": "print(1)"}, branch="topic")
    pull: dict[str, Any] = town.github.post("/pulls", repo=town.name, head="topic", **wish)
    return pull


def change(town: Town, **wish: Any) -> Any:
    return town.github.sim("PATCH", f"/pulls/{town.name}/1", wish)


def test_what_happens_to_a_pull_request_is_told_with_its_moment(town: Town) -> None:
    a_pull(town)
    opened = town.sink.wait_for("pull_request.opened").payload
    seen = [opened["pull_request"]["updated_at"]]
    steps: list[tuple[dict[str, Any], str]] = [
        ({"draft": True}, "converted_to_draft"),
        ({"draft": False}, "ready_for_review"),
        ({"state": "closed"}, "closed"),
        ({"state": "open"}, "reopened"),
        ({"locked": True}, "locked"),
        ({"locked": False}, "unlocked"),
        ({"title": "Another"}, "edited"),
        ({"merged": True}, "closed"),
    ]
    try:
        for wish, action in steps:
            town.github.post("/clock", advance_s=2)
            change(town, **wish)
            told = town.sink.wait_for(f"pull_request.{action}").payload["pull_request"]
            seen.append(told["updated_at"])
        town.github.post("/clock", advance_s=2)
        town.push({"train.py": "print(2)"}, branch="topic")
    finally:
        town.github.post("/clock", shift_s=0)
    assert seen == sorted(set(seen))
    assert change(town)["merged"] is True
    assert change(town, state="open")["state"] == "closed"  # merged is for ever


def test_a_push_moves_the_head_and_stamps_it(town: Town) -> None:
    before = a_pull(town)
    try:
        town.github.post("/clock", advance_s=5)
        sha = town.push({"train.py": "print(2)"}, branch="topic")
        told = town.sink.wait_for("pull_request.synchronize").payload
    finally:
        town.github.post("/clock", shift_s=0)
    assert (told["before"], told["after"]) == (before["head"]["sha"], sha)
    assert told["pull_request"]["head"]["sha"] == sha
    assert told["pull_request"]["updated_at"] > before["updated_at"]


def test_anybody_comments_and_a_deleted_account_is_a_ghost(town: Town) -> None:
    pull = a_pull(town)
    try:
        town.github.post("/clock", advance_s=5)
        made = town.github.post("/comments", repo=town.name, number=1, user="zoe", body="hello")
    finally:
        town.github.post("/clock", shift_s=0)
    told = town.sink.wait_for("issue_comment.created").payload
    assert (told["sender"]["login"], told["comment"]["author_association"]) == ("zoe", "NONE")
    assert told["comment"]["performed_via_github_app"] is None
    assert "head" not in told["issue"]  # the event names no commit
    assert told["issue"]["updated_at"] > pull["updated_at"]  # a comment is a change too
    town.github.sim("DELETE", "/users/zoe")
    found = town.repo_call("GET", f"/issues/comments/{made['id']}").json()
    assert found["user"]["login"] == "ghost"
    town.github.sim("PATCH", f"/comments/{made['id']}", {"body": "by a moderator"})
    told = town.sink.wait_for("issue_comment.edited").payload
    assert (told["sender"]["login"], told["changes"]["body"]["from"]) == (town.owner, "hello")
    town.github.sim("DELETE", f"/comments/{made['id']}")
    town.sink.wait_for("issue_comment.deleted")
    assert town.repo_call("GET", f"/issues/comments/{made['id']}").status_code == 404


def test_an_app_says_that_it_wrote_a_comment(town: Town) -> None:
    a_pull(town)
    made = town.repo_call("POST", "/issues/1/comments", {"body": "from the app"}).json()
    assert made["performed_via_github_app"]["id"] == town.app.id
    assert made["user"]["type"] == "Bot"
    told = town.sink.wait_for("issue_comment.created").payload
    assert told["sender"]["type"] == "Bot"


def test_a_locked_conversation_is_for_people_with_write_access_only(town: Town) -> None:
    a_pull(town)
    change(town, locked=True)
    town.github.sim("PUT", f"/repos/{town.name}/collaborators/wim", {"permission": "write"})
    answer = town.repo_call("POST", "/issues/1/comments", {"body": "x"})
    assert answer.status_code == 403
    assert answer.json()["message"] == "Unable to create comment because issue is locked."
    with pytest.raises(RuntimeError, match="issue is locked"):
        town.github.post("/comments", repo=town.name, number=1, user="zoe", body="x")
    town.github.post("/comments", repo=town.name, number=1, user="wim", body="x")


def test_a_reaction_is_made_once(town: Town) -> None:
    a_pull(town)
    made = town.github.post("/comments", repo=town.name, number=1, user="zoe", body="x")
    path = f"/issues/comments/{made['id']}/reactions"
    statuses = [town.repo_call("POST", path, {"content": "eyes"}).status_code for _ in range(2)]
    assert statuses == [201, 200]


def test_a_fork_s_pull_request_is_seen_by_its_number_only(town: Town) -> None:
    fork = town.github.post("/repos", owner="mallory", name="digits", fork_of=town.name, open=True)
    sha = town.github.push(
        town.folder, {"evil.py": "1"}, to=fork["full_name"], branch="main", user="mallory"
    )
    pull = town.github.post(
        "/pulls", repo=town.name, head="main", head_repo=fork["full_name"], user="mallory"
    )
    assert pull["head"]["repo"]["id"] == fork["id"] != town.repo_id
    run = town.repo_call("POST", "/check-runs", {"name": "c", "head_sha": sha}).json()
    assert run["pull_requests"] == []
    town.github.sim("DELETE", f"/repos/{fork['full_name']}")
    found = town.repo_call("GET", f"/pulls/{pull['number']}").json()
    assert (found["head"]["repo"], found["head"]["sha"]) == (None, sha)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"permission": "triage"}, ("read", "triage")),
        ({"permission": "maintain"}, ("write", "maintain")),
        ({"permission": "write", "role_name": "gpu-keeper"}, ("write", "gpu-keeper")),
    ],
)
def test_a_role_is_told_coarsely_and_by_its_name(
    town: Town, wish: dict[str, str], told: tuple[str, str]
) -> None:
    town.github.sim("PUT", f"/repos/{town.name}/collaborators/eve", wish)
    found = town.repo_call("GET", "/collaborators/eve/permission").json()
    assert (found["permission"], found["role_name"]) == told


def test_nobody_and_an_organisation_have_no_role(town: Town) -> None:
    town.github.post("/owners", login="some-company")
    for name in ("nobody-at-all", "some-company"):
        answer = town.repo_call("GET", f"/collaborators/{name}/permission")
        assert (answer.status_code, answer.json()["message"]) == (404, f"{name} is not a user")


def test_a_button_is_there_once_the_run_is_completed_and_as_last_sent(town: Town) -> None:
    button = {"label": "Extend", "description": "More time", "identifier": "extend"}
    other = {"label": "Logs", "description": "The end", "identifier": "logs"}
    body = {"name": "c", "head_sha": town.sha, "status": "in_progress", "actions": [button]}
    run = town.repo_call("POST", "/check-runs", body).json()
    place = f"/check-runs/{run['id']}"
    with pytest.raises(RuntimeError, match="no button"):
        town.github.post(f"{place}/press", identifier="extend", user="ada")
    end = {"conclusion": "success", "actions": [other]}
    town.repo_call("PATCH", place, end)
    with pytest.raises(RuntimeError, match="no button"):
        town.github.post(f"{place}/press", identifier="extend", user="ada")
    town.github.post(f"{place}/press", identifier="logs", user="ada")
    told = town.sink.wait_for("check_run.requested_action").payload
    assert told["requested_action"] == {"identifier": "logs"}
    again = town.repo_call("PATCH", place, {"status": "in_progress"}).json()
    # GitHub takes it, and what has ended stays so: whoever goes on makes another check run.
    assert (again["status"], again["conclusion"]) == ("completed", "success")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, '"event_type" wasn\'t supplied.'),
        ({"event_type": "x" * 101}, "Only 100 characters are allowed; 101 were supplied."),
        (
            {"event_type": "x", "client_payload": {str(n): n for n in range(11)}},
            "No more than 10 properties are allowed; 11 were supplied.",
        ),
        ({"event_type": "x", "client_payload": {"a": "x" * 65_530}}, "client_payload is too large"),
        ({"event_type": "x", "client_payload": ["a"]}, "is not an object"),
    ],
)
def test_a_dispatch_beyond_the_rules_is_refused(town: Town, body: Any, words: str) -> None:
    answer = town.repo_call("POST", "/dispatches", body)
    assert answer.status_code == 422
    assert words in answer.json()["message"]


def test_a_dispatch_is_told_to_apps_and_starts_workflows(town: Town) -> None:
    payload = {"commit_sha": town.sha, "pull_request": 7}
    body = {"event_type": "cynthus", "client_payload": payload}
    assert town.repo_call("POST", "/dispatches", body).status_code == 204
    told = town.github.sim("GET", "/events?after=0")[-1]
    assert told["event"] == "repository_dispatch"
    assert (told["payload"]["action"], told["payload"]["branch"]) == ("cynthus", "main")
    assert told["payload"]["client_payload"] == payload
    assert told["payload"]["sender"]["type"] == "Bot"  # nobody else pressed anything


def test_a_dispatch_needs_the_right_to_write_contents(town: Town) -> None:
    token = town.token(permissions={"contents": "read"})
    answer = town.call("POST", f"/repos/{town.name}/dispatches", token, {"event_type": "x"})
    assert answer.status_code == 403


def test_comments_are_counted_as_content_and_edits_are_not(town: Town) -> None:
    a_pull(town)
    town.github.post("/limits", content_per_minute=2)
    try:
        answers = [town.repo_call("POST", "/issues/1/comments", {"body": str(n)}) for n in range(3)]
        assert [one.status_code for one in answers] == [201, 201, 403]
        assert answers[2].headers["retry-after"] == "60"
        edit = town.repo_call(
            "PATCH", f"/issues/comments/{answers[0].json()['id']}", {"body": "again"}
        )
        assert edit.status_code == 200
    finally:
        town.github.post("/limits", content_per_minute=80)
