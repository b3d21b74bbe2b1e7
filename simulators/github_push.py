"""What follows from changed refs: push events, pull requests, check suites."""

from __future__ import annotations

from simulators import github_checks as checks
from simulators import github_events as events
from simulators import github_shapes as shapes
from simulators import github_shapes_work as work
from simulators import github_webhooks as webhooks
from simulators.github_git import EMPTY_TREE, NO_COMMIT, Commit, Git, GitFailed
from simulators.github_state import Doc
from simulators.github_world import World

COMMITS_LIMIT = 2048  # https://docs.github.com/webhooks (push: commits)
TAGS_LIMIT = 3  # no push event for more tags than that at once
BRANCHES_LIMIT = 5000


def settle(world: World, repo: Doc, pusher: Doc, *, by_job: bool = False) -> None:
    """Compare the refs with those last seen, and make the events of what changed.

    Called after every push, and at start for what was pushed just before a crash.
    """
    before: dict[str, str] = repo["known_refs"]
    after = world.git(repo).refs()
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not changed:
        return
    repo |= {"known_refs": after, "pushed_at": world.store.stamp()}
    _choose_default(world, repo, after)
    world.store.put("repo", repo)
    tags = [name for name in changed if name.startswith("refs/tags/")]
    branches = [name for name in changed if name.startswith("refs/heads/")]
    told = branches if len(branches) <= BRANCHES_LIMIT else []
    told = told + (tags if len(tags) <= TAGS_LIMIT else [])
    for ref in told:
        move = (before.get(ref, NO_COMMIT), after.get(ref, NO_COMMIT))
        _tell(world, repo, pusher, ref, move, known=before, by_job=by_job)


def _choose_default(world: World, repo: Doc, refs: dict[str, str]) -> None:
    # The first branch pushed to an empty repository becomes its default branch.
    heads = [name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/")]
    if heads and repo["default_branch"] not in heads and not repo["known_default"]:
        repo["default_branch"] = heads[0]
        world.git(repo).run("symbolic-ref", "HEAD", f"refs/heads/{heads[0]}")
    repo["known_default"] = repo["known_default"] or bool(heads)


def _tell(  # noqa: PLR0913 - one push, told once
    world: World,
    repo: Doc,
    pusher: Doc,
    ref: str,
    move: tuple[str, str],
    *,
    known: dict[str, str],
    by_job: bool,
) -> None:
    payload = push_payload(world, repo, pusher, ref, move, known)
    webhooks.emit(world, "push", payload, repo)
    # What GITHUB_TOKEN causes starts no workflow:
    # https://docs.github.com/actions/concepts/security/github_token
    if not by_job:
        events.note(world, "push", payload)
    if ref.startswith("refs/heads/") and move[1] != NO_COMMIT:
        branch = ref.removeprefix("refs/heads/")
        _request_suites(world, repo, move[1], branch)
        _follow_pulls(world, repo, pusher, branch, move, by_job=by_job)


def push_payload(  # noqa: PLR0913, PLR0917 - what a push is made of
    world: World, repo: Doc, pusher: Doc, ref: str, move: tuple[str, str], known: dict[str, str]
) -> Doc:
    """Return GitHub's `push` payload."""
    before, after = move
    git = world.git(repo)
    created, deleted = before == NO_COMMIT, after == NO_COMMIT
    commits = [] if deleted else _new_commits(git, before, after, known)
    head = None if deleted else _payload_commit(world, repo, git, git.commit(after))
    ends = (before[:12], after[:12])
    page = f"/compare/{ends[0]}...{ends[1]}"
    if created:
        page = f"/commit/{ends[1]}" if len(commits) < 2 else f"/compare/{ref.split('/', 2)[2]}"
    elif deleted:
        page = f"/compare/{ends[0]}...000000000000"
    payload = webhooks.about(world, repo, pusher)
    stamps = {
        name: int(_epoch(repo[name])) for name in ("created_at", "pushed_at")
    }  # whole seconds here, text elsewhere
    owner = world.owner(repo)
    payload["repository"] |= stamps | {
        "stargazers": 0,
        "master_branch": repo["default_branch"],
        "owner": payload["repository"]["owner"]
        | {"name": owner["login"], "email": f"{owner['login']}@users.noreply.github.com"},
    }
    return {
        "ref": ref,
        "before": before,
        "after": after,
        **payload,
        "pusher": {
            "name": pusher["login"],
            "email": f"{pusher['login']}@users.noreply.github.com",
        },
        "created": created,
        "deleted": deleted,
        "forced": not created and not deleted and _rewritten(git, before, after),
        "base_ref": _base_ref(known, ref, after) if created else None,
        "compare": shapes.html_url(world, repo, page),
        "commits": [_payload_commit(world, repo, git, commit) for commit in commits],
        "head_commit": head,
    }


def _epoch(text: str) -> float:
    from simulators.github_state import moment

    return moment(text).timestamp()


def _rewritten(git: Git, before: str, after: str) -> bool:
    try:
        git.ask("merge-base", "--is-ancestor", before, after)
    except GitFailed:
        return True
    return False


def _base_ref(known: dict[str, str], ref: str, after: str) -> str | None:
    same = (name for name, sha in known.items() if sha == after and name != ref)
    return next((name for name in same if name.startswith("refs/heads/")), None)


def _new_commits(git: Git, before: str, after: str, known: dict[str, str]) -> list[Commit]:
    there = [sha for sha in {before, *known.values()} if git.has_object(sha)]
    old = [f"^{sha}" for sha in there if git.object_type(sha) == "commit"]
    if before != NO_COMMIT:
        # A forced push may leave the old tip behind; its commits are not new all the same.
        old = [f"^{before}"] if git.has_object(before) else []
    return git.log("--reverse", f"--max-count={COMMITS_LIMIT}", after, *old)


def _payload_commit(world: World, repo: Doc, git: Git, commit: Commit) -> Doc:
    base = commit.parents[0] if commit.parents else EMPTY_TREE
    changes = git.changes(base, commit.sha, patches=False)
    by_status = {"added": ["added", "renamed"], "removed": ["removed"], "modified": ["modified"]}
    files = {
        name: [c.path for c in changes if c.status in statuses]
        for name, statuses in by_status.items()
    }
    files["removed"] += [c.old_path for c in changes if c.old_path]
    files["modified"] += [c.path for c in changes if c.status == "changed"]
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.committer[2],
        "url": shapes.html_url(world, repo, f"/commit/{commit.sha}"),
        "author": {"name": commit.author[0], "email": commit.author[1]},
        "committer": {"name": commit.committer[0], "email": commit.committer[1]},
        **files,
    }


def _request_suites(world: World, repo: Doc, sha: str, branch: str) -> None:
    for installation in world.store.find("installation", account_id=repo["owner_id"]):
        if installation["permissions"].get("checks") != "write" or installation["suspended_at"]:
            continue
        if world.covers(installation, repo):
            app = world.store.must("app", installation["app_id"])
            suite = checks.suite_for(world, repo, app, sha, branch)
            checks.emit_suite(world, suite, "requested")


def _follow_pulls(  # noqa: PLR0913 - one push, followed up once
    world: World, repo: Doc, pusher: Doc, branch: str, move: tuple[str, str], *, by_job: bool
) -> None:
    for pull in world.store.find("issue", is_pull=True, state="open", head_repo_id=repo["id"]):
        if pull["head_ref"] != branch:
            continue
        base = world.store.must("repo", pull["repo_id"])
        point(world, base, pull, move[1])
        changes = {"before": move[0], "after": move[1]}
        emit_pull(world, pull, pusher, "synchronize", changes, by_job=by_job)


def point(world: World, base: Doc, pull: Doc, sha: str) -> None:
    """Move a pull request to a head commit: `refs/pull/N/head` and the trial merge."""
    git = world.git(base)
    source = world.head_repo(pull)
    if source and source["id"] != base["id"]:
        git.run("fetch", "--quiet", "--no-tags", str(world.git(source).folder), sha)
    git.set_ref(f"refs/pull/{pull['number']}/head", sha)
    base_sha = git.resolve(pull["base_ref"]) or pull["base_sha"]
    pull |= {
        "head_sha": sha,
        "base_sha": base_sha,
        "mergeable": None,
        "merge_commit_sha": _trial_merge(git, pull, base_sha, sha),
        "updated_at": world.store.stamp(),
    }
    world.store.put("issue", pull)


def _trial_merge(git: Git, pull: Doc, base_sha: str, sha: str) -> str | None:
    try:
        tree = git.text("merge-tree", "--write-tree", base_sha, sha).splitlines()[0]
    except GitFailed:  # a conflict: there is no merge commit
        return None
    message = f"Merge {sha} into {base_sha}"
    merged = git.text("commit-tree", tree, "-p", base_sha, "-p", sha, "-m", message)
    git.set_ref(f"refs/pull/{pull['number']}/merge", merged)
    return merged


def emit_pull(  # noqa: PLR0913 - one event, told once
    world: World,
    pull: Doc,
    account: Doc,
    action: str,
    more: Doc | None = None,
    *,
    by_job: bool = False,
) -> None:
    """Send `pull_request`, and append it to the feed."""
    repo = world.store.must("repo", pull["repo_id"])
    payload = webhooks.about(
        world,
        repo,
        account,
        action=action,
        number=pull["number"],
        pull_request=work.pull_full(world, pull),
        **(more or {}),
    )
    webhooks.emit(world, "pull_request", payload, repo)
    if not by_job:
        events.note(world, "pull_request", payload)
