"""Checks, pull requests, comments and releases in GitHub's JSON shapes."""

from __future__ import annotations

from simulators import github_shapes as shapes
from simulators.github_state import Doc, node_id
from simulators.github_world import World


def check_run(world: World, run: Doc) -> Doc:
    """Return `check-run`."""
    repo = world.store.must("repo", run["repo_id"])
    app = world.store.must("app", run["app_id"])
    url = shapes.api_url(world, repo, f"/check-runs/{run['id']}")
    page = shapes.html_url(world, repo, f"/runs/{run['id']}")
    return {
        "id": run["id"],
        "name": run["name"],
        "node_id": node_id("CR", run["id"]),
        "head_sha": run["head_sha"],
        "external_id": run["external_id"],
        "url": url,
        "html_url": page,
        "details_url": run["details_url"] or app["external_url"],
        "status": run["status"],
        "conclusion": run["conclusion"],
        "started_at": run["started_at"],
        "completed_at": run["completed_at"],
        "output": {
            "title": run["output"].get("title"),
            "summary": run["output"].get("summary"),
            "text": run["output"].get("text"),
            "annotations_count": len(run["annotations"]),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": run["suite_id"]},
        "app": shapes.app(world, app),
        "pull_requests": pulls_of(world, repo, run["head_sha"]),
    }


def check_run_in_webhook(world: World, run: Doc) -> Doc:
    """Return `check-run-with-simple-check-suite`."""
    suite = world.store.must("check_suite", run["suite_id"])
    return check_run(world, run) | {"check_suite": simple_suite(world, suite)}


def simple_suite(world: World, suite: Doc) -> Doc:
    """Return `simple-check-suite`."""
    repo = world.store.must("repo", suite["repo_id"])
    return {
        "id": suite["id"],
        "node_id": node_id("CS", suite["id"]),
        "head_branch": suite["head_branch"],
        "head_sha": suite["head_sha"],
        "status": suite["status"],
        "conclusion": suite["conclusion"],
        "url": shapes.api_url(world, repo, f"/check-suites/{suite['id']}"),
        "before": suite["before"],
        "after": suite["head_sha"],
        "pull_requests": pulls_of(world, repo, suite["head_sha"]),
        "app": shapes.app(world, world.store.must("app", suite["app_id"])),
        "created_at": suite["created_at"],
        "updated_at": suite["updated_at"],
    }


def check_suite(world: World, suite: Doc) -> Doc:
    """Return `check-suite`."""
    repo = world.store.must("repo", suite["repo_id"])
    runs = world.store.find("check_run", suite_id=suite["id"])
    return simple_suite(world, suite) | {
        "repository": shapes.minimal_repo(world, repo),
        "head_commit": shapes.simple_commit(world.git(repo).commit(suite["head_sha"])),
        "latest_check_runs_count": len(runs),
        "check_runs_url": shapes.api_url(world, repo, f"/check-suites/{suite['id']}/check-runs"),
        "rerequestable": True,
        "runs_rerequestable": True,
    }


def pulls_of(world: World, repo: Doc, sha: str) -> list[Doc]:
    """Return the open pull requests at a commit; none for forks, whose pushes are not seen."""
    return [
        _pull_minimal(world, repo, pull)
        for pull in world.store.find("issue", repo_id=repo["id"])
        if pull["is_pull"]
        and pull["state"] == "open"
        and pull["head_sha"] == sha
        and pull["head_repo_id"] == repo["id"]
    ]


def _pull_minimal(world: World, repo: Doc, pull: Doc) -> Doc:
    place = {"id": repo["id"], "url": shapes.api_url(world, repo), "name": repo["name"]}
    return {
        "url": shapes.api_url(world, repo, f"/pulls/{pull['number']}"),
        "id": pull["pull_id"],
        "number": pull["number"],
        "head": {"ref": pull["head_ref"], "sha": pull["head_sha"], "repo": place},
        "base": {"ref": pull["base_ref"], "sha": pull["base_sha"], "repo": place},
    }


def annotation(world: World, run: Doc, item: Doc) -> Doc:
    """Return `check-annotation`."""
    repo = world.store.must("repo", run["repo_id"])
    return {
        "path": item["path"],
        "blob_href": shapes.html_url(world, repo, f"/blob/{run['head_sha']}/{item['path']}"),
        "start_line": item["start_line"],
        "start_column": item.get("start_column"),
        "end_line": item["end_line"],
        "end_column": item.get("end_column"),
        "annotation_level": item["annotation_level"],
        "title": item.get("title"),
        "message": item["message"],
        "raw_details": item.get("raw_details"),
    }


def pull_simple(world: World, pull: Doc) -> Doc:
    """Return `pull-request-simple`."""
    repo = world.store.must("repo", pull["repo_id"])
    number = pull["number"]
    url = shapes.api_url(world, repo, f"/pulls/{number}")
    issue_url = shapes.api_url(world, repo, f"/issues/{number}")
    page = shapes.html_url(world, repo, f"/pull/{number}")
    urls = {
        "url": url,
        "html_url": page,
        "issue_url": issue_url,
        "comments_url": f"{issue_url}/comments",
        "review_comments_url": f"{url}/comments",
        "review_comment_url": shapes.api_url(world, repo, "/pulls/comments{/number}"),
        "commits_url": f"{url}/commits",
        "statuses_url": shapes.api_url(world, repo, f"/statuses/{pull['head_sha']}"),
    }
    links = {
        "self": url,
        "html": page,
        "issue": issue_url,
        "comments": urls["comments_url"],
        "review_comments": urls["review_comments_url"],
        "review_comment": urls["review_comment_url"],
        "commits": urls["commits_url"],
        "statuses": urls["statuses_url"],
    }
    return urls | {
        "id": pull["pull_id"],
        "node_id": node_id("PR", pull["pull_id"]),
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "number": number,
        "state": pull["state"],
        "locked": pull.get("locked", False),
        "title": pull["title"],
        "user": shapes.author(world, pull["user_id"]),
        "body": pull["body"],
        "created_at": pull["created_at"],
        "updated_at": pull["updated_at"],
        "closed_at": pull["closed_at"],
        "merged_at": pull["merged_at"],
        "merge_commit_sha": pull["merge_commit_sha"],
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": [],
        "milestone": None,
        "draft": pull["draft"],
        "head": _side(world, world.head_repo(pull), pull["head_ref"], pull["head_sha"]),
        "base": _side(world, repo, pull["base_ref"], pull["base_sha"]),
        "_links": {name: {"href": href} for name, href in links.items()},
        "author_association": association(repo, pull["user_id"]),
        "auto_merge": None,
        "active_lock_reason": None,
    }


def _side(world: World, repo: Doc | None, ref: str, sha: str) -> Doc:
    # Null once the fork is deleted, whatever the schema says: seen in recorded traffic.
    if repo is None:
        return {"label": None, "ref": ref, "sha": sha, "user": None, "repo": None}
    owner = world.owner(repo)
    return {
        "label": f"{owner['login']}:{ref}",
        "ref": ref,
        "sha": sha,
        "user": shapes.user(world, owner),
        "repo": shapes.repository(world, repo),
    }


def association(repo: Doc, user_id: int) -> str:
    """Return `author_association`, which says relation and not rights."""
    if user_id == repo["owner_id"]:
        return "OWNER"
    return "COLLABORATOR" if str(user_id) in repo["collaborators"] else "NONE"


def pull_full(world: World, pull: Doc) -> Doc:
    """Return `pull-request`."""
    repo = world.store.must("repo", pull["repo_id"])
    git = world.git(repo)
    base = git.merge_base(pull["base_sha"], pull["head_sha"]) or pull["base_sha"]
    changes = git.changes(base, pull["head_sha"], patches=False)
    merger = world.store.get("account", pull["merged_by_id"])
    comments = world.store.find("comment", issue_id=pull["id"])
    return pull_simple(world, pull) | {
        "merged": pull["merged_at"] is not None,
        "mergeable": pull["mergeable"],
        "rebaseable": pull["mergeable"],
        "mergeable_state": "unknown" if pull["mergeable"] is None else "clean",
        "merged_by": shapes.user(world, merger) if merger else None,
        "comments": len(comments),
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": git.count(f"{base}..{pull['head_sha']}"),
        "additions": sum(change.additions for change in changes),
        "deletions": sum(change.deletions for change in changes),
        "changed_files": len(changes),
    }


def issue(world: World, doc: Doc) -> Doc:
    """Return `issue`; a pull request is one with a `pull_request` member."""
    repo = world.store.must("repo", doc["repo_id"])
    url = shapes.api_url(world, repo, f"/issues/{doc['number']}")
    kind = "pull" if doc["is_pull"] else "issues"
    page = shapes.html_url(world, repo, f"/{kind}/{doc['number']}")
    shape = {
        "url": url,
        "repository_url": shapes.api_url(world, repo),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": page,
        "id": doc["id"],
        "node_id": node_id("PR" if doc["is_pull"] else "I", doc["id"]),
        "number": doc["number"],
        "title": doc["title"],
        "user": shapes.author(world, doc["user_id"]),
        "labels": [],
        "state": doc["state"],
        "locked": doc.get("locked", False),
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "comments": len(world.store.find("comment", issue_id=doc["id"])),
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "closed_at": doc["closed_at"],
        "author_association": association(repo, doc["user_id"]),
        "active_lock_reason": None,
        "body": doc["body"],
        "closed_by": None,
        "reactions": reaction_counts(f"{url}/reactions", []),
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": None,
        "state_reason": None,
    }
    if not doc["is_pull"]:
        return shape
    return shape | {
        "draft": doc["draft"],
        "pull_request": {
            "url": shapes.api_url(world, repo, f"/pulls/{doc['number']}"),
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": doc["merged_at"],
        },
    }


def comment(world: World, doc: Doc) -> Doc:
    """Return `issue-comment`."""
    repo = world.store.must("repo", doc["repo_id"])
    about = world.store.must("issue", doc["issue_id"])
    url = shapes.api_url(world, repo, f"/issues/comments/{doc['id']}")
    page = issue(world, about)["html_url"]
    app = world.store.get("app", doc["app_id"])
    return {
        "url": url,
        "html_url": f"{page}#issuecomment-{doc['id']}",
        "issue_url": shapes.api_url(world, repo, f"/issues/{about['number']}"),
        "id": doc["id"],
        "node_id": node_id("IC", doc["id"]),
        "user": shapes.author(world, doc["user_id"]),
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "body": doc["body"],
        "author_association": association(repo, doc["user_id"]),
        "reactions": reaction_counts(
            f"{url}/reactions", world.store.find("reaction", comment_id=doc["id"])
        ),
        "performed_via_github_app": shapes.app(world, app) if app else None,
    }


REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")


def reaction_counts(url: str, reactions: list[Doc]) -> Doc:
    """Return `reaction-rollup`."""
    counts = {name: sum(r["content"] == name for r in reactions) for name in REACTIONS}
    return {"url": url, "total_count": len(reactions), **counts}


def reaction(world: World, doc: Doc) -> Doc:
    """Return `reaction`."""
    return {
        "id": doc["id"],
        "node_id": node_id("REA", doc["id"]),
        "user": shapes.author(world, doc["user_id"]),
        "content": doc["content"],
        "created_at": doc["created_at"],
    }


def release(world: World, doc: Doc) -> Doc:
    """Return `release`."""
    repo = world.store.must("repo", doc["repo_id"])
    url = shapes.api_url(world, repo, f"/releases/{doc['id']}")
    uploads = f"{world.store.base_url}/api/uploads/repos/{world.full_name(repo)}"
    tag = doc["tag_name"] if not doc["draft"] else f"untagged-{doc['id']:x}"
    assets = world.store.find("asset", release_id=doc["id"])
    return {
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"{uploads}/releases/{doc['id']}/assets{{?name,label}}",
        "html_url": shapes.html_url(world, repo, f"/releases/tag/{tag}"),
        "id": doc["id"],
        "author": shapes.author(world, doc["author_id"]),
        "node_id": node_id("RE", doc["id"]),
        "tag_name": doc["tag_name"],
        "target_commitish": doc["target_commitish"],
        "name": doc["name"],
        "draft": doc["draft"],
        "immutable": doc["immutable"],
        "prerelease": doc["prerelease"],
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "published_at": doc["published_at"],
        "assets": [asset(world, item) for item in assets],
        "tarball_url": None
        if doc["draft"]
        else shapes.api_url(world, repo, f"/tarball/{doc['tag_name']}"),
        "zipball_url": None
        if doc["draft"]
        else shapes.api_url(world, repo, f"/zipball/{doc['tag_name']}"),
        "body": doc["body"],
    }


def asset(world: World, doc: Doc) -> Doc:
    """Return `release-asset`."""
    repo = world.store.must("repo", doc["repo_id"])
    parent = world.store.must("release", doc["release_id"])
    page = shapes.html_url(world, repo, f"/releases/download/{parent['tag_name']}/{doc['name']}")
    return {
        "url": shapes.api_url(world, repo, f"/releases/assets/{doc['id']}"),
        "id": doc["id"],
        "node_id": node_id("RA", doc["id"]),
        "name": doc["name"],
        "label": doc["label"],
        "uploader": shapes.author(world, doc["uploader_id"]),
        "content_type": doc["content_type"],
        "state": doc["state"],
        "size": doc["size"],
        "digest": doc["digest"],
        "download_count": doc["download_count"],
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "browser_download_url": page,
    }
