"""Real git against the simulator, and the webhooks that follow."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import requests

from tests.contract.conftest import Town
from tests.github_fixture import SECRET, GithubSimulator, git


def test_a_push_arrives_as_a_signed_event_with_its_files(town: Town) -> None:
    after = town.push({"a.txt": "1", "cynthus.yaml": "name: new\n"}, message="Second")
    delivery = town.sink.wait_for("push")
    assert delivery.signed_with(SECRET)
    assert not delivery.signed_with("another secret")
    event = delivery.payload
    assert (event["ref"], event["before"], event["after"]) == ("refs/heads/main", town.sha, after)
    assert (event["created"], event["deleted"], event["forced"]) == (False, False, False)
    assert event["head_commit"]["message"] == "Second"
    assert (event["commits"][0]["added"], event["commits"][0]["modified"]) == (
        ["a.txt"],
        ["cynthus.yaml"],
    )
    assert event["repository"]["id"] == town.repo_id
    assert event["installation"]["id"] == town.installation_id


def test_new_moved_and_deleted_branches_and_tags_are_told_apart(town: Town) -> None:
    town.push({"b.txt": "1"}, branch="feature")
    created = town.sink.wait_for("push").payload
    assert (created["created"], created["before"]) == (True, "0" * 40)
    git(town.folder, "commit", "--quiet", "--amend", "-m", "Other words")
    address = town.github.git_url(town.name)
    git(town.folder, "push", "--quiet", "--force", address, "HEAD:feature")
    assert town.sink.wait_for("push").payload["forced"] is True
    git(town.folder, "push", "--quiet", address, ":feature")
    deleted = town.sink.wait_for("push").payload
    assert (deleted["deleted"], deleted["head_commit"], deleted["commits"]) == (True, None, [])
    git(town.folder, "push", "--quiet", address, "HEAD:refs/tags/v1")
    assert town.sink.wait_for("push").payload["ref"] == "refs/tags/v1"


def test_more_than_three_tags_at_once_are_not_told(town: Town) -> None:
    tags = [f"HEAD:refs/tags/t{n}" for n in range(4)]
    git(town.folder, "push", "--quiet", town.github.git_url(town.name), *tags)
    town.push({"c.txt": "1"})
    assert town.sink.wait_for("push").payload["ref"] == "refs/heads/main"


def test_a_push_to_a_pull_request_moves_its_head_and_says_synchronize(town: Town) -> None:
    before = town.push({"d.txt": "1"}, branch="feature")
    town.github.post("/pulls", repo=town.name, head="feature")
    opened = town.sink.wait_for("pull_request.opened").payload
    assert opened["pull_request"]["head"]["sha"] == before
    after = town.push({"d.txt": "2"}, branch="feature")
    event = town.sink.wait_for("pull_request.synchronize").payload
    assert (event["before"], event["after"]) == (before, after)
    assert event["pull_request"]["head"]["sha"] == after
    fetched = git(town.folder, "ls-remote", town.github.git_url(town.name), "refs/pull/*")
    assert f"{after}\trefs/pull/1/head" in fetched
    assert "refs/pull/1/merge" in fetched


def test_clone_and_fetch_bring_back_what_was_pushed(town: Town, tmp_path: Path) -> None:
    address = town.github.git_url(town.name)
    git(tmp_path, "clone", "--quiet", address, "copy")
    assert (tmp_path / "copy/cynthus.yaml").read_text() == "name: digits\n"
    head = town.push({"e.txt": "1"})
    git(tmp_path / "copy", "fetch", "--quiet", "--depth=1", address, head)
    assert git(tmp_path / "copy", "rev-parse", "FETCH_HEAD") == head


def test_a_large_push_in_chunks_arrives_whole(town: Town, tmp_path: Path) -> None:
    # Above http.postBuffer (1 MiB) git sends chunks; noise stays large when packed.
    noise = b"".join(os.urandom(1 << 20) for _ in range(3))
    (town.folder / "noise.bin").write_bytes(noise)
    town.push({})
    git(tmp_path, "clone", "--quiet", town.github.git_url(town.name), "copy")
    assert (tmp_path / "copy/noise.bin").read_bytes() == noise


def test_a_gzipped_request_body_is_understood(town: Town) -> None:
    wish = b"0014command=ls-refs\n00010009peel\n0000"
    answer = requests.post(
        f"{town.github.git_url(town.name)}/git-upload-pack",
        data=gzip.compress(wish),
        headers={
            "Content-Type": "application/x-git-upload-pack-request",
            "Content-Encoding": "gzip",
            "Git-Protocol": "version=2",
        },
        timeout=60,
    )
    assert answer.status_code == 200
    assert f"{town.sha} refs/heads/main".encode() in answer.content


@pytest.mark.parametrize(
    ("role", "may_read", "may_push"),
    [("none", False, False), ("read", True, False), ("write", True, True), ("admin", True, True)],
)
def test_a_private_repository_is_read_and_pushed_to_by_role(
    github: GithubSimulator, tmp_path: Path, role: str, may_read: bool, may_push: bool
) -> None:
    owner = f"private-{role}"
    github.post("/repos", owner=owner, name="secret", private=True)
    mine = github.post("/users", login=owner)["token"]
    github.push(tmp_path / "work", {"a": "1"}, to=f"{owner}/secret", token=mine)
    user = github.post("/users", login=f"user-{role}")
    github.sim("PUT", f"/repos/{owner}/secret/collaborators/{user['login']}", {"permission": role})
    address = github.git_url(f"{owner}/secret", user["token"])
    assert _works("ls-remote", address, folder=tmp_path) is may_read
    pushed = _works("push", address, "HEAD:refs/heads/new", folder=tmp_path / "work")
    assert pushed is may_push
    assert not _works("ls-remote", github.git_url(f"{owner}/secret"), folder=tmp_path)


def _works(*words: str, folder: Path) -> bool:
    try:
        git(folder, *words)
    except RuntimeError:
        return False
    return True


def test_a_public_repository_that_is_not_open_takes_no_push_from_strangers(
    github: GithubSimulator, tmp_path: Path
) -> None:
    github.post("/repos", owner="careful", name="shut")
    with pytest.raises(RuntimeError, match=r"could not read Username|Authentication"):
        github.push(tmp_path / "work", {"a": "1"}, to="careful/shut")


def test_pull_request_refs_cannot_be_pushed(town: Town) -> None:
    with pytest.raises(RuntimeError, match="hidden ref"):
        git(town.folder, "push", town.github.git_url(town.name), "HEAD:refs/pull/9/head")


def test_an_installation_token_clones_and_a_cut_down_one_does_not_push(
    town: Town, tmp_path: Path
) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"private": True, "open": False})
    token = town.token(permissions={"contents": "read"})
    git(tmp_path, "clone", "--quiet", town.github.git_url(town.name, token), "copy")
    with pytest.raises(RuntimeError, match="403"):
        git(town.folder, "push", town.github.git_url(town.name, token), "HEAD:refs/heads/x")


def test_what_a_job_s_token_pushes_starts_no_workflow(town: Town) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"open": False})
    job = town.github.post(
        "/workflow_jobs", repo=town.name, sha=town.sha, permissions={"contents": "write"}
    )
    before = town.github.sim("GET", "/events")[-1]["seq"]
    town.push({"f.txt": "1"}, token=job["github_token"])
    assert town.sink.wait_for("push").payload["pusher"]["name"] == "github-actions[bot]"
    assert town.github.sim("GET", f"/events?after={before}") == []
