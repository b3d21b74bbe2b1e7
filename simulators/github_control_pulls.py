"""Control endpoints under `/_sim/` for what people do at pull requests: open, comment, press."""

from __future__ import annotations

from simulators import github_checks as checks
from simulators import github_push as push
from simulators import github_rest_pulls as pulls
from simulators import github_shapes_work as work
from simulators.github_control import need, repo_named
from simulators.github_http import Answer, ApiError, Call, Route, not_found
from simulators.github_state import Doc


def open_pull(call: Call) -> Answer:
    """POST /_sim/pulls {repo, head: a branch, head_repo?, base?, title?, user?}."""
    wish, world = call.json(), call.world
    base = repo_named(call, need(wish, "repo"))
    head = repo_named(call, wish["head_repo"]) if wish.get("head_repo") else base
    branch = str(need(wish, "head")).rpartition(":")[2]
    sha = world.git(head).resolve(f"refs/heads/{branch}")
    base_ref = wish.get("base") or base["default_branch"]
    base_sha = world.git(base).resolve(f"refs/heads/{base_ref}")
    if sha is None or base_sha is None:
        raise ApiError(422, f"head, base: {branch!r} and {base_ref!r} should be branches.")
    account = world.account(wish.get("user") or world.owner(head)["login"])
    pull = call.store.put("issue", _new_issue(call, base, account, wish, is_pull=True))
    pull |= {"head_ref": branch, "base_ref": base_ref, "head_repo_id": head["id"]}
    pull["base_sha"] = base_sha
    push.point(world, base, pull, sha)
    push.emit_pull(world, pull, account, "opened")
    return Answer(status=201, json=work.pull_full(world, pull))


def _new_issue(call: Call, repo: Doc, account: Doc, wish: Doc, *, is_pull: bool) -> Doc:
    number = repo["next_number"]
    repo["next_number"] = number + 1
    call.store.put("repo", repo)
    now = call.store.stamp()
    return {
        "repo_id": repo["id"],
        "number": number,
        "is_pull": is_pull,
        "pull_id": call.store.new_id("issue"),
        "title": wish.get("title") or "A change",
        "body": wish.get("body"),
        "user_id": account["id"],
        "state": "open",
        "draft": bool(wish.get("draft", False)),
        "locked": False,
        "created_at": now,
        "updated_at": now,
        "closed_at": None,
        "merged_at": None,
        "merged_by_id": None,
        "merge_commit_sha": None,
        "mergeable": None,
        "head_sha": None,
        "head_repo_id": None,
    }


def open_issue(call: Call) -> Answer:
    """POST /_sim/issues {repo, title?, body?, user?}."""
    wish = call.json()
    repo = repo_named(call, need(wish, "repo"))
    account = call.world.account(wish.get("user") or call.world.owner(repo)["login"])
    issue = call.store.put("issue", _new_issue(call, repo, account, wish, is_pull=False))
    return Answer(status=201, json=work.issue(call.world, issue))


def change_pull(call: Call) -> Answer:
    """PATCH /_sim/pulls/{owner}/{repo}/{number} {state?, merged?, draft?, locked?, title?, user?}.

    Each change is an event of its own, as each click of a person is; all stamp `updated_at`.
    """
    repo, wish = repo_named(call), call.json()
    pull = call.world.pull(repo, call.number("number"))
    if pull is None:
        raise not_found()
    account = call.world.account(wish.get("user") or call.world.owner(repo)["login"])
    for action, change, more in _changes(call, pull, wish, account):
        pull |= change | {"updated_at": call.store.stamp()}
        call.store.put("issue", pull)
        if pull["is_pull"]:
            push.emit_pull(call.world, pull, account, action, more)
    shape = work.pull_full if pull["is_pull"] else work.issue
    return Answer(json=shape(call.world, pull))


def _changes(call: Call, pull: Doc, wish: Doc, account: Doc) -> list[tuple[str, Doc, Doc]]:
    """Return what changes: the event's action, the new values, what more the event says."""
    found: list[tuple[str, Doc, Doc]] = []
    now = call.store.stamp()
    closing = wish.get("state") == "closed" or bool(wish.get("merged"))
    if closing and pull["state"] == "open":
        merge = {"merged_at": now, "merged_by_id": account["id"]} if wish.get("merged") else {}
        found.append(("closed", {"state": "closed", "closed_at": now, **merge}, {}))
    if wish.get("state") == "open" and pull["state"] == "closed" and not pull["merged_at"]:
        found.append(("reopened", {"state": "open", "closed_at": None}, {}))
    if wish.get("draft", pull["draft"]) != pull["draft"]:
        action = "converted_to_draft" if wish["draft"] else "ready_for_review"
        found.append((action, {"draft": bool(wish["draft"])}, {}))
    if wish.get("locked", pull.get("locked", False)) != pull.get("locked", False):
        found.append(("locked" if wish["locked"] else "unlocked", {"locked": wish["locked"]}, {}))
    if "title" in wish:
        told = {"changes": {"title": {"from": pull["title"]}}}
        found.append(("edited", {"title": wish["title"]}, told))
    return found


def comment(call: Call) -> Answer:
    """POST /_sim/comments {repo, number, user, body, via_app?: an app's id}: anybody may."""
    wish = call.json()
    repo = repo_named(call, need(wish, "repo"))
    issue = call.world.pull(repo, int(need(wish, "number")))
    if issue is None:
        raise not_found()
    account = call.world.account(need(wish, "user"))
    pulls.check_lock(call.world, issue, account)
    made = pulls.add_comment(call.world, issue, account, need(wish, "body"), wish.get("via_app"))
    return Answer(status=201, json=work.comment(call.world, made))


def change_comment(call: Call) -> Answer:
    """PATCH {body, user?} or DELETE {user?} /_sim/comments/{id}: by its author, or a moderator."""
    found = call.store.get("comment", call.number("id"))
    if found is None:
        raise not_found()
    account = _changer(call, found)
    if call.method == "DELETE":
        pulls.emit_comment(call.world, found, account, "deleted")
        call.store.delete("comment", found["id"])
        return Answer(status=204)
    before = found["body"]
    found |= {"body": need(call.json(), "body"), "updated_at": call.store.stamp()}
    call.store.put("comment", found)
    changes = {"body": {"from": before}}
    pulls.emit_comment(call.world, found, account, "edited", changes=changes)
    return Answer(json=work.comment(call.world, found))


def _changer(call: Call, comment: Doc) -> Doc:
    """Return who changes a comment; the repository's owner where its author is gone."""
    name = call.json().get("user")
    if name:
        return call.world.account(name)
    repo = call.store.must("repo", comment["repo_id"])
    return call.store.get("account", comment["user_id"]) or call.world.owner(repo)


def press(call: Call) -> Answer:
    """POST /_sim/check-runs/{id}/press {identifier? | rerequest: true, user?}: a person's click."""
    run = call.store.get("check_run", call.number("id"))
    if run is None:
        raise not_found()
    wish = call.json()
    repo = call.store.must("repo", run["repo_id"])
    account = call.world.account(wish.get("user") or call.world.owner(repo)["login"])
    identifier = wish.get("identifier")
    if identifier is None:
        checks.rerequest(call.world, run, account)
        return Answer(status=202, json={})
    if not checks.press(call.world, run, account, identifier):
        raise ApiError(422, f"identifier: the run shows no button {identifier!r}.")
    return Answer(status=202, json={})


ROUTES = (
    Route(method="POST", template="/pulls", handler=open_pull),
    Route(method="PATCH", template="/pulls/{owner}/{repo}/{number}", handler=change_pull),
    Route(method="POST", template="/issues", handler=open_issue),
    Route(method="POST", template="/comments", handler=comment),
    Route(method="PATCH", template="/comments/{id}", handler=change_comment),
    Route(method="DELETE", template="/comments/{id}", handler=change_comment),
    Route(method="POST", template="/check-runs/{id}/press", handler=press),
)
