"""REST: repositories, collaborators, branches, commits, trees, blobs and refs."""

from __future__ import annotations

import base64

from simulators import github_shapes as shapes
from simulators import github_shapes_work as work
from simulators.github_auth import allowed, reaches, repo_of
from simulators.github_git import EMPTY_TREE, Change, Git, GitFailed, TreeEntry
from simulators.github_http import Answer, ApiError, Call, Route, need_commit, not_found, page
from simulators.github_state import Doc, node_id

COMPARE_FILES = 300  # https://docs.github.com/rest/commits/commits (compare two commits)
TREE_ENTRIES = 100_000


def get_repo(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}."""
    repo = repo_of(call)
    allowed(call, repo, "metadata:read")
    role = call.world.role(repo, call.caller.user)
    if call.caller.is_integration:
        role = "write" if call.caller.permissions.get("contents") == "write" else "read"
    return Answer(json=shapes.full_repo(call.world, repo, role))


def permission(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/collaborators/{username}/permission."""
    repo = repo_of(call)
    caller = call.caller
    if caller.is_integration and not reaches(call.world, caller, repo):
        raise ApiError(403, "Resource not accessible by integration")
    if caller.kind == "anonymous":
        raise ApiError(401, "Requires authentication")
    if caller.kind == "user" and not call.world.may(repo, caller.user, "write"):
        raise ApiError(403, "Must have push access to view collaborator permission.")
    name = call.args["username"]
    account = call.world.find_account(name)
    if account is None or account["type"] == "Organization":
        raise ApiError(404, f"{name} is not a user")
    return Answer(json=shapes.collaborator_permission(call.world, repo, account))


def _contents(call: Call) -> tuple[Doc, Git]:
    repo = repo_of(call)
    allowed(call, repo, "contents:read")
    return repo, call.world.git(repo)


def list_branches(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/branches."""
    repo, git = _contents(call)
    heads = [(n, s) for n, s in git.refs().items() if n.startswith("refs/heads/")]
    shown = [
        {
            "name": name.removeprefix("refs/heads/"),
            "commit": {"sha": sha, "url": shapes.api_url(call.world, repo, f"/commits/{sha}")},
            "protected": False,
        }
        for name, sha in heads
    ]
    return page(call, shown)


def get_branch(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/branches/{branch}."""
    repo, git = _contents(call)
    name = call.args["branch"]
    sha = git.refs().get(f"refs/heads/{name}")
    if sha is None:
        raise ApiError(404, "Branch not found")
    url = shapes.api_url(call.world, repo, f"/branches/{name}")
    checks: Doc = {"enforcement_level": "off", "contexts": [], "checks": []}
    return Answer(
        json={
            "name": name,
            "commit": shapes.commit(call.world, repo, git.commit(sha)),
            "_links": {
                "self": url,
                "html": shapes.html_url(call.world, repo, f"/tree/{name}"),
            },
            "protected": False,
            "protection": {"enabled": False, "required_status_checks": checks},
            "protection_url": f"{url}/protection",
        }
    )


def get_commit(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits/{ref}."""
    repo, git = _contents(call)
    sha = need_commit(git, call.args["ref"])
    if call.headers.get("accept") in {
        "application/vnd.github.sha",
        "application/vnd.github.v3.sha",
    }:
        return Answer(raw=sha.encode(), media_type="application/vnd.github.sha")
    found = git.commit(sha)
    before = found.parents[0] if found.parents else EMPTY_TREE
    changes = git.changes(before, sha)
    shape = shapes.commit(call.world, repo, found)
    shape["stats"] = {
        "additions": sum(c.additions for c in changes),
        "deletions": sum(c.deletions for c in changes),
        "total": sum(c.additions + c.deletions for c in changes),
    }
    shape["files"] = [changed_file(call, repo, sha, c) for c in changes[:COMPARE_FILES]]
    return Answer(json=shape)


def changed_file(call: Call, repo: Doc, sha: str, change: Change) -> Doc:
    """Return `diff-entry`."""
    entry: Doc = {
        "sha": change.sha,
        "filename": change.path,
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": shapes.html_url(call.world, repo, f"/blob/{sha}/{change.path}"),
        "raw_url": shapes.html_url(call.world, repo, f"/raw/{sha}/{change.path}"),
        "contents_url": shapes.api_url(call.world, repo, f"/contents/{change.path}?ref={sha}"),
    }
    if change.patch is not None:
        entry["patch"] = change.patch
    if change.old_path is not None:
        entry["previous_filename"] = change.old_path
    return entry


def list_commits(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits."""
    repo, git = _contents(call)
    name = call.params.get("sha") or repo["default_branch"]
    sha = git.resolve(name)
    if sha is None:
        if not git.refs():
            raise ApiError(409, "Git Repository is empty.")
        raise not_found()
    commits = git.log("--max-count=1000", sha)
    return page(call, [shapes.commit(call.world, repo, c) for c in commits])


def commit_pulls(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls."""
    repo = repo_of(call)
    allowed(call, repo, "pull_requests:read")
    git = call.world.git(repo)
    sha = need_commit(git, call.args["ref"])
    pulls = [p for p in call.store.find("issue", repo_id=repo["id"]) if p["is_pull"]]
    found = [work.pull_simple(call.world, p) for p in pulls if _contains(git, p, sha)]
    return page(call, found)


def _contains(git: Git, pull: Doc, sha: str) -> bool:
    base = git.merge_base(pull["base_sha"], pull["head_sha"])
    span = f"{base}..{pull['head_sha']}" if base else pull["head_sha"]
    return sha in git.asked("rev-list", "--max-count=250", span).split()


def compare(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/compare/{basehead}."""
    repo, git = _contents(call)
    base_name, mark, head_name = call.args["basehead"].partition("...")
    base, head = git.resolve(base_name), git.resolve(head_name.rpartition(":")[2])
    if not mark or base is None or head is None:
        raise not_found()
    middle = git.merge_base(base, head)
    if middle is None:
        raise ApiError(404, f"No common ancestor between {base_name} and {head_name}.")
    ahead, behind = git.count(f"{base}..{head}"), git.count(f"{head}..{base}")
    commits = git.log("--reverse", "--max-count=250", f"{base}..{head}") if ahead else []
    changes = git.changes(middle, head)
    url = shapes.api_url(call.world, repo, f"/compare/{base_name}...{head_name}")
    html = shapes.html_url(call.world, repo, f"/compare/{base_name}...{head_name}")
    return Answer(
        json={
            "url": url,
            "html_url": html,
            "permalink_url": html,
            "diff_url": f"{html}.diff",
            "patch_url": f"{html}.patch",
            "base_commit": shapes.commit(call.world, repo, git.commit(base)),
            "merge_base_commit": shapes.commit(call.world, repo, git.commit(middle)),
            "status": _compare_status(ahead, behind),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [shapes.commit(call.world, repo, c) for c in commits],
            "files": [changed_file(call, repo, head, c) for c in changes[:COMPARE_FILES]],
        }
    )


def _compare_status(ahead: int, behind: int) -> str:
    if ahead and behind:
        return "diverged"
    return "ahead" if ahead else "behind" if behind else "identical"


def get_tree(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/git/trees/{tree_sha}."""
    repo, git = _contents(call)
    name = call.args["tree_sha"]
    try:
        sha = git.text("rev-parse", "--verify", "--quiet", f"{git.resolve(name) or name}^{{tree}}")
        entries = git.tree(sha, recursive="recursive" in call.params)
    except GitFailed:
        raise not_found() from None
    return Answer(
        json={
            "sha": sha,
            "url": shapes.api_url(call.world, repo, f"/git/trees/{sha}"),
            "tree": [_tree_entry(call, repo, e) for e in entries[:TREE_ENTRIES]],
            "truncated": len(entries) > TREE_ENTRIES,
        }
    )


def _tree_entry(call: Call, repo: Doc, entry: TreeEntry) -> Doc:
    shape: Doc = {"path": entry.path, "mode": entry.mode, "type": entry.type, "sha": entry.sha}
    if entry.size is not None:
        shape["size"] = entry.size
    if entry.type != "commit":
        kind = "trees" if entry.type == "tree" else "blobs"
        shape["url"] = shapes.api_url(call.world, repo, f"/git/{kind}/{entry.sha}")
    return shape


def get_blob(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/git/blobs/{file_sha}."""
    repo, git = _contents(call)
    sha = call.args["file_sha"]
    if not git.has_object(sha) or git.object_type(sha) != "blob":
        raise not_found()
    content = git.blob(sha)
    if "raw" in call.headers.get("accept", ""):
        return Answer(raw=content, media_type="application/vnd.github.raw; charset=utf-8")
    return Answer(
        json={
            "sha": sha,
            "node_id": node_id("B", int(sha[:15], 16)),
            "size": len(content),
            "url": shapes.api_url(call.world, repo, f"/git/blobs/{sha}"),
            "content": base64.encodebytes(content).decode(),
            "encoding": "base64",
        }
    )


def get_ref(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/git/ref/{ref}."""
    repo, git = _contents(call)
    name = f"refs/{call.args['ref']}"
    sha = git.refs().get(name)
    if sha is None:
        raise not_found()
    return Answer(json=_ref(call, repo, git, name))


def _ref(call: Call, repo: Doc, git: Git, name: str) -> Doc:
    sha = git.refs()[name]
    kind = git.object_type(sha)
    return {
        "ref": name,
        "node_id": f"REF_{name}",
        "url": shapes.api_url(call.world, repo, f"/git/{name}"),
        "object": {
            "sha": sha,
            "type": kind,
            "url": shapes.api_url(call.world, repo, f"/git/{kind}s/{sha}"),
        },
    }


def matching_refs(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/git/matching-refs/{ref}."""
    repo, git = _contents(call)
    start = f"refs/{call.args['ref']}"
    names = [name for name in git.refs() if name.startswith(start)]
    return Answer(json=[_ref(call, repo, git, name) for name in names])


_REPO = "/repos/{owner}/{repo}"
ROUTES = (
    Route(method="GET", template=_REPO, handler=get_repo),
    Route(
        method="GET",
        template=f"{_REPO}/collaborators/{{username}}/permission",
        handler=permission,
    ),
    Route(method="GET", template=f"{_REPO}/branches", handler=list_branches),
    Route(method="GET", template=f"{_REPO}/branches/{{branch...}}", handler=get_branch),
    Route(method="GET", template=f"{_REPO}/commits", handler=list_commits),
    Route(method="GET", template=f"{_REPO}/commits/{{ref}}/pulls", handler=commit_pulls),
    Route(method="GET", template=f"{_REPO}/compare/{{basehead...}}", handler=compare),
    Route(method="GET", template=f"{_REPO}/git/trees/{{tree_sha...}}", handler=get_tree),
    Route(method="GET", template=f"{_REPO}/git/blobs/{{file_sha}}", handler=get_blob),
    Route(method="GET", template=f"{_REPO}/git/ref/{{ref...}}", handler=get_ref),
    Route(method="GET", template=f"{_REPO}/git/matching-refs/{{ref...}}", handler=matching_refs),
)
# Takes any further path, so it is asked after every other route under /commits/.
LAST_ROUTES = (Route(method="GET", template=f"{_REPO}/commits/{{ref...}}", handler=get_commit),)
