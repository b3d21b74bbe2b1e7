"""What GitHub refuses, the simulator refuses in the same words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from tests.contract.conftest import Town
from tests.github_fixture import GithubSimulator, git

LONG = "x" * 65536


def a_run(**more: Any) -> dict[str, Any]:
    """Return the body of a check run that GitHub takes, changed as wished."""
    return {"name": "cynthus", "head_sha": "SHA"} | more


def output(**more: Any) -> dict[str, Any]:
    """Return an output that GitHub takes, changed as wished."""
    return {"output": {"title": "t", "summary": "s"} | more}


def note(**more: Any) -> dict[str, Any]:
    """Return an annotation that GitHub takes, changed as wished."""
    found = {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "notice"}
    return found | {"message": "m"} | more


def button(**more: str) -> dict[str, str]:
    """Return an action that GitHub takes, changed as wished."""
    return {"label": "Cancel", "description": "Stop", "identifier": "cancel"} | more


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"head_sha": "SHA"}, '"name" wasn\'t supplied'),
        ({"name": "c"}, '"head_sha" wasn\'t supplied'),
        (a_run(head_sha="0" * 40), "No commit found for SHA: " + "0" * 40),
        (a_run(head_sha="main"), "No commit found for SHA: main"),
        (a_run(output={"summary": "s"}), '"title" wasn\'t supplied'),
        (a_run(output={"title": "s"}), '"summary" wasn\'t supplied'),
        (a_run(**output(summary=LONG)), "Only 65535 characters are allowed; 65536 were supplied."),
        (a_run(**output(text=LONG)), "Only 65535 characters are allowed; 65536 were supplied."),
        (a_run(status="completed"), '"conclusion" wasn\'t supplied'),
        (a_run(completed_at="2026-11-22T06:00:00Z"), '"conclusion" wasn\'t supplied'),
        (a_run(conclusion="stale"), "conclusion"),
        (a_run(status="pending"), "Only GitHub Actions"),
        (a_run(status="done"), "status"),
        (a_run(started_at="yesterday"), "date-time"),
        (a_run(**output(annotations=[note()] * 51)), "51 were supplied"),
        (a_run(**output(annotations=[note(end_line=0)])), "end_line"),
        (a_run(**output(annotations=[note(end_line=2, start_column=1)])), "start_column"),
        (a_run(**output(annotations=[note(annotation_level="error")])), "error"),
        (a_run(**output(annotations=[note(title="x" * 256)])), "title"),
        (a_run(**output(annotations=[note(message="x" * 65537)])), "message"),
        (a_run(**output(images=[{"alt": "x"}])), "image_url"),
        (a_run(actions=[button()] * 4), "4 were supplied"),
        (a_run(actions=[button(label="x" * 21)]), "Only 20 characters"),
        (a_run(actions=[button(description="x" * 41)]), "Only 40 characters"),
        (a_run(actions=[button(identifier="x" * 21)]), "Only 20 characters"),
    ],
)
def test_a_check_run_beyond_the_rules_is_refused(
    calm_town: Town, judged: None, body: dict[str, Any], words: str
) -> None:
    town = calm_town
    if body.get("head_sha") == "SHA":
        body = body | {"head_sha": town.sha}
    answer = town.repo_call("POST", "/check-runs", body)
    assert answer.status_code == 422
    assert words in answer.json()["message"]
    assert answer.json()["documentation_url"].startswith("https://docs.github.com/")
    listed = town.repo_call("GET", f"/commits/{town.sha}/check-runs").json()
    assert listed["total_count"] == 0


def test_what_is_just_within_the_rules_is_taken(town: Town) -> None:
    body = a_run(
        head_sha=town.sha,
        actions=[button(label="x" * 20, description="x" * 40, identifier="x" * 20)] * 3,
        **output(summary="x" * 65535, text="x" * 65535, annotations=[note()] * 50),
    )
    assert town.repo_call("POST", "/check-runs", body).status_code == 201


@pytest.mark.parametrize(
    "wish",
    [{"status": "queued"}, {"status": "in_progress"}, {"conclusion": "success"}],
)
def test_a_completed_run_takes_updates_and_stays_as_it_was_concluded(
    town: Town, wish: dict[str, str]
) -> None:
    body = a_run(head_sha=town.sha, conclusion="action_required", **output())
    run = town.repo_call("POST", "/check-runs", body).json()
    more = {"output": {"title": "t", "summary": "news"}}
    answer = town.repo_call("PATCH", f"/check-runs/{run['id']}", wish | more)
    assert answer.status_code == 200
    after = town.repo_call("GET", f"/check-runs/{run['id']}").json()
    assert (after["status"], after["conclusion"]) == ("completed", "action_required")
    assert after["output"]["summary"] == "news"


@pytest.mark.case("G9")
def test_an_unfinished_run_is_stale_after_fourteen_days(town: Town) -> None:
    run = town.repo_call("POST", "/check-runs", a_run(head_sha=town.sha)).json()
    town.github.post("/clock", advance_s=14 * 86400 + 1)
    try:
        after = town.repo_call("GET", f"/check-runs/{run['id']}").json()
    finally:
        town.github.post("/clock", shift_s=0)
    assert (after["status"], after["conclusion"]) == ("completed", "stale")


def test_another_app_s_run_cannot_be_changed(town: Town) -> None:
    job = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha)
    answer = town.repo_call("PATCH", f"/check-runs/{job['check_run_id']}", {"name": "mine"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("permissions", "method", "path", "body", "status"),
    [
        ({"contents": "write"}, "POST", "/check-runs", a_run(), 403),
        ({"checks": "read"}, "POST", "/check-runs", a_run(), 403),
        ({"contents": "read"}, "POST", "/releases", {"tag_name": "v1"}, 403),
        ({"pull_requests": "read"}, "POST", "/issues/1/comments", {"body": "x"}, 403),
        ({"pull_requests": "write"}, "POST", "/issues/1/comments", {"body": "x"}, 201),
        (
            {"pull_requests": "write"},
            "POST",
            "/issues/comments/CID/reactions",
            {"content": "+1"},
            403,
        ),
        ({"issues": "write"}, "POST", "/issues/comments/CID/reactions", {"content": "+1"}, 201),
        ({"checks": "write"}, "GET", "/contents/cynthus.yaml", None, 403),
        ({"contents": "write"}, "GET", "/immutable-releases", None, 403),
        ({"checks": "write"}, "GET", "/pulls/1", None, 403),
        ({"metadata": "read"}, "GET", "/collaborators/bob/permission", None, 200),
        ({"checks": "write"}, "POST", "/statuses/SHA", {"state": "success"}, 403),
        ({"checks": "write"}, "POST", "/actions/workflows/x.yml/dispatches", {"ref": "main"}, 403),
    ],
)
def test_a_token_can_do_what_its_permissions_say(
    town: Town, permissions: dict[str, str], method: str, path: str, body: Any, status: int
) -> None:
    town.push({"x": "1"}, branch="feature")
    town.github.post("/pulls", repo=town.name, head="feature")
    said = town.github.post("/comments", repo=town.name, number=1, user="bob", body="hello")
    town.github.sim("PATCH", f"/repos/{town.name}", {"private": True})
    path = path.replace("CID", str(said["id"])).replace("SHA", town.sha)
    if isinstance(body, dict) and body.get("head_sha") == "SHA":
        body = body | {"head_sha": town.sha}
    token = town.token(permissions=permissions)
    answer = town.call(method, f"/repos/{town.name}{path}", token, body)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["message"] == "Resource not accessible by integration"


def test_a_token_is_good_for_its_repositories_only(town: Town) -> None:
    town.github.post("/repos", owner=town.owner, name="other", private=True)
    token = town.token(repositories=["digits"])
    assert town.call("GET", f"/repos/{town.owner}/other", token).status_code == 404
    assert town.call("GET", f"/repos/{town.name}", token).status_code == 200
    body = a_run(head_sha=town.sha)
    stranger = f"/repos/{town.owner}/other/check-runs"
    assert town.call("POST", stranger, token, body).status_code == 404
    path = f"/app/installations/{town.installation_id}/access_tokens"
    unknown = town.call("POST", path, town.jwt(), {"repositories": ["nowhere"]})
    assert unknown.status_code == 422
    too_much = town.call("POST", path, town.jwt(), {"permissions": {"administration": "write"}})
    assert too_much.status_code == 422


def test_a_token_ends_after_an_hour_when_revoked_and_when_suspended(town: Town) -> None:
    first, second, third = town.token(), town.token(), town.token()
    assert town.call("DELETE", "/installation/token", first).status_code == 204
    assert town.call("GET", f"/repos/{town.name}", first).status_code == 401
    town.github.sim("PATCH", f"/installations/{town.installation_id}", {"suspended": True})
    assert town.call("GET", f"/repos/{town.name}", second).status_code == 401
    town.github.sim("PATCH", f"/installations/{town.installation_id}", {"suspended": False})
    town.github.post("/clock", advance_s=3601)
    try:
        assert town.call("GET", f"/repos/{town.name}", third).status_code == 401
    finally:
        town.github.post("/clock", shift_s=0)


def test_both_token_formats_work(town: Town) -> None:
    path = f"/app/installations/{town.installation_id}/access_tokens"
    old = town.call("POST", path, town.jwt(), {}).json()["token"]
    asked = {"X_GitHub_Stateless_S2S_Token": "enabled"}
    new = town.call("POST", path, town.jwt(), {}, **asked).json()["token"]
    assert (len(old), old[:4]) == (40, "ghs_")
    assert new.startswith(f"ghs_{town.app.id}_")
    assert len(new) > 400
    assert new.count(".") == 2
    for token in (old, new):
        assert town.call("GET", f"/repos/{town.name}", token).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exp": 700}, "too far in the future"),
        ({"exp": -1}, "must be a numeric value representing the future"),
        ({"iat": 120}, "'Issued at' claim"),
        ({"iss": "424242"}, "Integration not found"),
        ({"alg": "HS256"}, "could not be decoded"),
        ({"exp": None}, "Missing 'expiration'"),
    ],
)
def test_an_app_s_own_token_follows_the_rules(
    calm_town: Town, judged: None, change: dict[str, Any], words: str
) -> None:
    town, change = calm_town, dict(change)
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now - 60, "exp": now + 300, "iss": str(town.app.id)}
    algorithm = change.pop("alg", "RS256")
    for name, value in change.items():
        claims[name] = now + value if isinstance(value, int) else value
    claims = {name: value for name, value in claims.items() if value is not None}
    key = town.app.pem if algorithm == "RS256" else "k" * 40
    token = jwt.encode(claims, key, algorithm=algorithm)
    answer = town.call("GET", "/app", token)
    assert answer.status_code == 401
    assert words in answer.json()["message"]


def test_the_client_id_names_the_app_as_well_as_its_number(town: Town) -> None:
    now = int(time.time())
    claims = {"iat": now - 60, "exp": now + 300, "iss": town.app.client_id}
    token = jwt.encode(claims, town.app.pem, algorithm="RS256")
    assert town.call("GET", "/app", token).json()["id"] == town.app.id


@pytest.mark.parametrize(
    ("version", "status"), [("2022-11-28", 200), ("2026-03-10", 200), ("2021-01-01", 400)]
)
def test_api_versions(calm_town: Town, version: str, status: int) -> None:
    answer = calm_town.call("GET", "/versions", None, None, X_GitHub_Api_Version=version)
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["x-github-api-version-selected"] == version


def test_a_renamed_repository_redirects_and_a_stranger_learns_nothing(town: Town) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"name": "moved"})
    answer = town.repo_call("GET", "/branches")
    assert answer.status_code == 301
    assert answer.headers["location"].endswith(f"/repositories/{town.repo_id}/branches")
    followed = town.call("GET", answer.headers["location"], town.token())
    assert followed.status_code == 200
    assert town.client().get_repo(town.name).name == "moved"
    town.github.sim("PATCH", f"/repos/{town.owner}/moved", {"private": True})
    assert town.call("GET", f"/repos/{town.owner}/moved").status_code == 404


def test_an_unchanged_answer_is_304_and_free(town: Town) -> None:
    token = town.token()
    first = town.call("GET", f"/repos/{town.name}", token)
    again = town.call(
        "GET", f"/repos/{town.name}", token, None, If_None_Match=first.headers["etag"]
    )
    assert again.status_code == 304
    left = "x-ratelimit-remaining"
    assert again.headers[left] == first.headers[left]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "wasn't supplied"),
        ({"body": ""}, "can't be blank"),
        ({"body": "x" * 65537}, "Body is too long (maximum is 65536 characters)"),
    ],
)
def test_a_comment_beyond_the_rules_is_refused(town: Town, body: Any, words: str) -> None:
    town.github.post("/issues", repo=town.name)
    answer = town.repo_call("POST", "/issues/1/comments", body)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_tag_on_a_commit_that_changes_workflows_needs_the_right_to(town: Town) -> None:
    sha = town.push({".github/workflows/x.yml": "on: push"}, branch="feature")
    body = {"tag_name": "v1", "target_commitish": sha}
    assert town.repo_call("POST", "/releases", body).status_code == 404
    assert town.repo_call("POST", "/releases", body | {"target_commitish": "main"}).ok
    assert town.repo_call("POST", "/releases", body).status_code == 422  # the tag is taken now


def test_an_immutable_release_keeps_its_tag_and_files(town: Town) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"immutable_releases": True})
    release = town.repo_call("POST", "/releases", {"tag_name": "v1"}).json()
    assert release["immutable"] is True
    upload = release["upload_url"].partition("{")[0]
    sent = town.call("POST", f"{upload}?name=a", town.token(), b"x", Content_Type="text/plain")
    assert sent.status_code == 422
    with pytest.raises(RuntimeError, match="hidden ref"):
        git(town.folder, "push", town.github.git_url(town.name), ":refs/tags/v1")


def test_the_name_of_a_deleted_immutable_release_is_nobodys_again(town: Town) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"immutable_releases": True})
    release = town.repo_call("POST", "/releases", {"tag_name": "v1"}).json()
    assert town.repo_call("DELETE", "/git/refs/tags/v1").status_code == 422
    assert town.repo_call("DELETE", f"/releases/{release['id']}").status_code == 204
    assert town.repo_call("DELETE", "/git/refs/tags/v1").status_code == 204
    town.github.sim("PATCH", f"/repos/{town.name}", {"immutable_releases": False})
    refused = town.repo_call("POST", "/releases", {"tag_name": "v1"})
    assert refused.status_code == 422
    told = [error["message"] for error in refused.json()["errors"]]
    assert "tag_name was used by an immutable release" in told
    draft = town.repo_call("POST", "/releases", {"tag_name": "v1", "draft": True})
    assert draft.status_code == 201
    path = f"/releases/{draft.json()['id']}"
    assert town.repo_call("PATCH", path, {"draft": False}).status_code == 422
    renamed = town.repo_call("PATCH", path, {"tag_name": "v1-2", "draft": True})
    assert renamed.status_code == 200
    assert town.repo_call("PATCH", path, {"draft": False}).json()["tag_name"] == "v1-2"


def test_a_deleted_release_leaves_its_tag_until_that_is_deleted_too(town: Town) -> None:
    release = town.repo_call("POST", "/releases", {"tag_name": "v1"}).json()
    town.repo_call("DELETE", f"/releases/{release['id']}")
    assert town.repo_call("GET", "/git/ref/tags/v1").status_code == 200
    assert town.repo_call("DELETE", "/git/refs/tags/v1").status_code == 204
    assert town.repo_call("GET", "/git/ref/tags/v1").status_code == 404
    assert town.repo_call("DELETE", "/git/refs/tags/v1").status_code == 422
    assert town.repo_call("POST", "/releases", {"tag_name": "v1"}).status_code == 201


def test_a_draft_is_hidden_from_those_who_may_not_write(town: Town) -> None:
    town.repo_call("POST", "/releases", {"tag_name": "v1", "draft": True})
    reader = town.token(permissions={"contents": "read"})
    assert town.call("GET", f"/repos/{town.name}/releases", reader).json() == []
    assert len(town.repo_call("GET", "/releases").json()) == 1


@pytest.mark.parametrize("how", ["redirect", "direct"])
def test_an_asset_is_downloaded_by_redirect_or_directly(town: Town, how: str) -> None:
    town.github.post("/settings", asset_downloads=how)
    release = town.repo_call("POST", "/releases", {"tag_name": "v1"}).json()
    upload = release["upload_url"].partition("{")[0]
    sent = town.call("POST", f"{upload}?name=a b", town.token(), b"data", Content_Type="text/plain")
    asset = sent.json()
    assert (asset["name"], asset["size"], asset["state"]) == ("a.b", 4, "uploaded")
    wish = {"Accept": "application/octet-stream"}
    answer = town.call("GET", asset["url"], town.token(), None, **wish)
    assert answer.status_code == (302 if how == "redirect" else 200)
    if how == "redirect":
        answer = requests.get(answer.headers["location"], timeout=60)
    assert answer.content == b"data"
    town.github.post("/settings", asset_downloads="redirect")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("link", "file"), ("dangling", "symlink"), ("folder", "list"), ("big.bin", "none")],
)
def test_contents_follow_links_list_folders_and_leave_large_files_out(
    town: Town, path: str, kind: str
) -> None:
    (town.folder / "folder").mkdir()
    (town.folder / "link").symlink_to("cynthus.yaml")
    (town.folder / "dangling").symlink_to("/etc/passwd")
    town.push({"folder/a": "1", "big.bin": "x" * ((1 << 20) + 1)})
    found = town.repo_call("GET", f"/contents/{path}").json()
    seen = "list" if isinstance(found, list) else found["type"]
    seen = found["encoding"] if kind == "none" else seen
    assert seen == kind
    raw = town.repo_call("GET", "/contents/big.bin", None, Accept="application/vnd.github.raw+json")
    assert len(raw.content) == (1 << 20) + 1


def test_a_person_s_token_cannot_write_checks(town: Town, github: GithubSimulator) -> None:
    ada = github.post("/users", login=town.owner)["token"]
    body = a_run(head_sha=town.sha)
    answer = town.call("POST", f"/repos/{town.name}/check-runs", ada, body)
    assert answer.json()["message"] == "You must authenticate via a GitHub App."


def test_what_is_no_json_is_refused(town: Town, tmp_path: Path) -> None:
    path = f"/repos/{town.name}/check-runs"
    for body in (b"{", b"[]", b"[" * 100_000):
        assert town.call("POST", path, town.token(), body).status_code == 400
