"""Unmodified PyGithub against the simulator: what our server does with GitHub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from github import GithubException

from tests.contract.conftest import Town


def test_an_app_finds_its_installations_and_repositories(town: Town) -> None:
    integration = town.github.integration(town.app)
    assert integration.get_app().slug == town.app.slug
    assert [i.id for i in integration.get_installations()] == [town.installation_id]
    assert integration.get_repo_installation(town.owner, "digits").id == town.installation_id
    token = integration.get_access_token(town.installation_id, permissions={"checks": "write"})
    assert token.permissions == {"metadata": "read", "checks": "write"}
    repos = integration.get_installations()[0].get_repos()
    assert [repo.id for repo in repos] == [town.repo_id]


def test_a_check_run_goes_from_queued_to_success_with_annotations_in_batches(town: Town) -> None:
    repo = town.client().get_repo(town.name)
    run = repo.create_check_run(
        "cynthus",
        town.sha,
        external_id="r1",
        status="queued",
        output={"title": "Queued", "summary": "Waiting for a GPU."},
    )
    assert (run.status, run.conclusion, run.external_id) == ("queued", None, "r1")
    notes = [
        {
            "path": "cynthus.yaml",
            "start_line": line,
            "end_line": line,
            "annotation_level": "warning",
            "message": f"line {line}",
        }
        for line in range(1, 61)
    ]
    for part in (notes[:50], notes[50:]):
        run.edit(
            status="in_progress", output={"title": "R", "summary": "running", "annotations": part}
        )
    run.edit(conclusion="success", output={"title": "Done", "summary": "**ok**"})
    again = repo.get_check_run(run.id)
    assert (again.status, again.conclusion) == ("completed", "success")
    assert again.completed_at is not None
    assert [note.message for note in again.get_annotations()] == [n["message"] for n in notes]
    found = list(repo.get_commit(town.sha).get_check_runs())
    assert [r.id for r in found] == [run.id]
    suites = list(repo.get_commit(town.sha).get_check_suites())
    assert [s.conclusion for s in suites] == ["success"]


def test_a_release_is_drafted_filled_and_published_with_its_tag(town: Town, tmp_path: Path) -> None:
    repo = town.client().get_repo(town.name)
    content = b"weights" * 1000
    (tmp_path / "model.bin").write_bytes(content)
    draft = repo.create_git_release("run-1", "Run 1", "notes", draft=True)
    asset = draft.upload_asset(str(tmp_path / "model.bin"), name="my model.bin")
    assert asset.name == "my.model.bin"  # GitHub renames special characters
    assert asset.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    with pytest.raises(GithubException):
        repo.get_release("run-1")  # a draft has no tag yet
    draft.update_release("Run 1", "notes", draft=False)
    release = repo.get_release("run-1")
    assert [a.name for a in release.get_assets()] == ["my.model.bin"]
    assert repo.get_git_ref("tags/run-1").object.sha == town.sha
    assert repo.get_latest_release().id == draft.id
    with pytest.raises(GithubException) as refused:
        release.upload_asset(str(tmp_path / "model.bin"), name="my model.bin")
    assert refused.value.data["errors"][0]["code"] == "already_exists"
    release.get_assets()[0].delete_asset()
    release.delete_release()
    assert list(repo.get_releases()) == []


def test_comments_and_reactions_on_a_pull_request(town: Town) -> None:
    town.push({"more.txt": "x"}, branch="feature")
    pull = town.github.post("/pulls", repo=town.name, head="feature", user="bob")
    said = town.github.post(
        "/comments", repo=town.name, number=pull["number"], user="bob", body="/cynthus run"
    )
    issue = town.client().get_repo(town.name).get_issue(pull["number"])
    theirs = issue.get_comment(said["id"])
    first, second = theirs.create_reaction("rocket"), theirs.create_reaction("rocket")
    assert first.id == second.id
    mine = issue.create_comment("on it")
    mine.edit("done")
    assert [c.body for c in issue.get_comments()] == ["/cynthus run", "done"]
    assert mine.user.login == f"{town.app.slug}[bot]"
    mine.delete()
    assert [c.body for c in issue.get_comments()] == ["/cynthus run"]


@pytest.mark.parametrize(
    ("granted", "permission", "role"),
    [
        ("admin", "admin", "admin"),
        ("maintain", "write", "maintain"),
        ("write", "write", "write"),
        ("triage", "read", "triage"),
        ("read", "read", "read"),
        ("none", "read", "read"),  # everybody may read what is public
    ],
)
def test_permission_is_coarse_and_the_role_is_exact(
    town: Town, granted: str, permission: str, role: str
) -> None:
    town.github.sim("PUT", f"/repos/{town.name}/collaborators/carol", {"permission": granted})
    repo = town.client(lazy=True).get_repo(town.name)
    assert repo.get_collaborator_permission("carol") == permission
    assert repo.get_collaborator_role_name("carol") == role


def test_contents_trees_and_comparisons(town: Town) -> None:
    head = town.push({"src/train.py": "print(1)\n", "cynthus.yaml": "name: two\n"})
    repo = town.client().get_repo(town.name)
    file = repo.get_contents("cynthus.yaml", ref=town.sha)
    assert not isinstance(file, list)
    assert file.decoded_content == b"name: digits\n"
    listed = repo.get_contents("src")
    assert isinstance(listed, list)
    assert [entry.path for entry in listed] == ["src/train.py"]
    tree = repo.get_git_tree(head, recursive=True)
    assert [e.path for e in tree.tree] == ["cynthus.yaml", "src", "src/train.py"]
    assert repo.get_git_blob(tree.tree[0].sha).encoding == "base64"
    compared = repo.compare(town.sha, head)
    assert (compared.status, compared.ahead_by, compared.behind_by) == ("ahead", 1, 0)
    assert {f.filename: f.status for f in compared.files} == {
        "cynthus.yaml": "modified",
        "src/train.py": "added",
    }
    assert repo.get_branch("main").commit.sha == head
    with pytest.raises(GithubException) as missing:
        repo.get_contents("nowhere.txt")
    assert missing.value.status == 404


def test_a_pull_request_shows_files_commits_and_is_found_by_its_commit(town: Town) -> None:
    head = town.push({"more.txt": "1\n"}, branch="feature")
    town.github.post("/pulls", repo=town.name, head="feature", title="More")
    repo = town.client().get_repo(town.name)
    pull = repo.get_pull(1)
    assert (pull.head.sha, pull.base.sha, pull.mergeable) == (head, town.sha, None)
    assert repo.get_pull(1).mergeable is True
    assert [file.filename for file in pull.get_files()] == ["more.txt"]
    assert [commit.sha for commit in pull.get_commits()] == [head]
    assert [p.number for p in repo.get_commit(head).get_pulls()] == [1]
    assert [p.number for p in repo.get_pulls()] == [1]


def test_a_fork_s_pull_request_has_no_head_repository_once_the_fork_is_gone(
    town: Town, tmp_path: Path
) -> None:
    town.github.post("/repos", owner="mallory", name=town.owner, fork_of=town.name, open=True)
    fork = f"mallory/{town.owner}"
    head = town.github.push(town.folder, {"x.txt": "1"}, to=fork, branch="evil")
    made = town.github.post("/pulls", repo=town.name, head="evil", head_repo=fork)
    assert made["head"]["repo"]["fork"] is True
    town.github.sim("DELETE", f"/repos/{fork}")
    repo = town.client().get_repo(town.name)
    assert repo.get_pull(made["number"]).raw_data["head"]["repo"] is None
    # The base repository holds the commit all the same, so a check run can be put on it …
    run = repo.create_check_run("cynthus", head, status="in_progress")
    # … but it names no pull request, as for every fork.
    assert (run.pull_requests, run.raw_data["check_suite"] is not None) == ([], True)


def test_a_commit_status_is_kept(town: Town) -> None:
    commit = town.client().get_repo(town.name).get_commit(town.sha)
    commit.create_status("success", description="fine", context="cynthus")
    assert [(s.state, s.context) for s in commit.get_statuses()] == [("success", "cynthus")]


def test_a_workflow_is_dispatched_and_the_feed_says_so(town: Town) -> None:
    text = "on:\n  workflow_dispatch:\njobs: {}\n"
    town.push({".github/workflows/train.yml": text})
    before = town.github.sim("GET", "/events")[-1]["seq"]
    workflow = f"/repos/{town.name}/actions/workflows/train.yml/dispatches"
    body = {"ref": "main", "inputs": {"gpu": "1"}}
    assert town.call("POST", workflow, town.token(), body).status_code == 204
    (event,) = town.github.sim("GET", f"/events?after={before}&wait=5")
    assert (event["event"], event["payload"]["inputs"]) == ("workflow_dispatch", {"gpu": "1"})
    missing = workflow.replace("train.yml", "other.yml")
    assert town.call("POST", missing, town.token(), body).status_code == 404
