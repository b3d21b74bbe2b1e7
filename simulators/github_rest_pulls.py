"""REST: pull requests, issues, comments and reactions."""

from __future__ import annotations

from simulators import github_shapes as shapes
from simulators import github_shapes_work as work
from simulators import github_webhooks as webhooks
from simulators.github_auth import allowed, repo_of
from simulators.github_http import (
    Answer,
    ApiError,
    Call,
    Route,
    invalid,
    not_found,
    page,
    unprocessable,
)
from simulators.github_rest_repos import changed_file
from simulators.github_state import Doc, Json
from simulators.github_world import World

BODY_LIMIT = 65536
FILES_LIMIT = 3000
COMMITS_LIMIT = 250
_ABOUT_COMMENTS = ("issues:write", "pull_requests:write")


def _pull(call: Call) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, "pull_requests:read")
    found = call.world.pull(repo, call.number("pull_number"))
    if found is None or not found["is_pull"]:
        raise not_found()
    return found


def get_pull(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/pulls/{pull_number}."""
    pull = _pull(call)
    answer = Answer(json=work.pull_full(call.world, pull))
    if pull["mergeable"] is None:  # worked out in the background: null on the first look
        call.store.put("issue", pull | {"mergeable": True})
    return answer


def list_pulls(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/pulls."""
    repo = repo_of(call)
    allowed(call, repo, "pull_requests:read")
    pulls = [p for p in reversed(call.store.find("issue", repo_id=repo["id"])) if p["is_pull"]]
    state = call.params.get("state", "open")
    shown = [work.pull_simple(call.world, p) for p in pulls if state in {"all", p["state"]}]
    if "head" in call.params:
        shown = [p for p in shown if p["head"]["label"] == call.params["head"]]
    if "base" in call.params:
        shown = [p for p in shown if p["base"]["ref"] == call.params["base"]]
    return page(call, shown)


def pull_files(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/pulls/{pull_number}/files."""
    pull = _pull(call)
    repo = call.store.must("repo", pull["repo_id"])
    git = call.world.git(repo)
    base = git.merge_base(pull["base_sha"], pull["head_sha"]) or pull["base_sha"]
    changes = git.changes(base, pull["head_sha"])[:FILES_LIMIT]
    return page(call, [changed_file(call, repo, pull["head_sha"], c) for c in changes])


def pull_commits(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/pulls/{pull_number}/commits."""
    pull = _pull(call)
    repo = call.store.must("repo", pull["repo_id"])
    git = call.world.git(repo)
    base = git.merge_base(pull["base_sha"], pull["head_sha"]) or pull["base_sha"]
    found = git.log("--reverse", f"--max-count={COMMITS_LIMIT}", f"{base}..{pull['head_sha']}")
    return page(call, [shapes.commit(call.world, repo, c) for c in found])


def _issue(call: Call, *needs: str) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, *(needs or ("issues:read", "pull_requests:read")))
    found = call.world.pull(repo, call.number("issue_number"))
    if found is None:
        raise not_found()
    return found


def get_issue(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/issues/{issue_number}."""
    return Answer(json=work.issue(call.world, _issue(call)))


def list_comments(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/issues/{issue_number}/comments."""
    issue = _issue(call)
    found = call.store.find("comment", issue_id=issue["id"])
    return page(call, [work.comment(call.world, c) for c in found])


def create_comment(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/issues/{issue_number}/comments."""
    issue = _issue(call, *_ABOUT_COMMENTS)
    body = _body(call)
    check_lock(call.world, issue, call.caller.user or {})
    app_id = (call.caller.app or {}).get("id")
    comment = add_comment(call.world, issue, call.caller.user or {}, body, app_id)
    shape = work.comment(call.world, comment)
    return Answer(status=201, json=shape, headers={"Location": shape["url"]})


def _body(call: Call) -> str:
    body = call.json().get("body")
    if not isinstance(body, str):
        raise unprocessable('"body" wasn\'t supplied.')
    if not body.strip():
        raise invalid("IssueComment", "body", "missing_field", "body can't be blank")
    if len(body) > BODY_LIMIT:
        # In the words of https://github.com/reg-viz/reg-actions/issues/123
        message = f"Body is too long (maximum is {BODY_LIMIT} characters)"
        error = {"resource": "IssueComment", "code": "unprocessable", "field": "data"}
        raise ApiError(422, "Validation Failed", errors=[error | {"message": message}])
    return body


def check_lock(world: World, issue: Doc, account: Doc) -> None:
    """Raise GitHub's 403 where the conversation is locked for this account.

    Only people with write access may go on: apps may not, whatever they were granted.
    https://docs.github.com/communities/moderating-comments-and-conversations/locking-conversations
    and https://github.com/renovatebot/renovate/issues/6215 for the words.
    """
    repo = world.store.must("repo", issue["repo_id"])
    if not issue.get("locked") or world.may(repo, account, "write"):
        return
    page = "https://help.github.com/articles/locking-conversations/"
    raise ApiError(403, "Unable to create comment because issue is locked.", docs=page)


def add_comment(world: World, issue: Doc, account: Doc, body: str, app_id: int | None) -> Doc:
    """Keep a comment and send `issue_comment`."""
    now = world.store.stamp()
    comment = world.store.put(
        "comment",
        {
            "repo_id": issue["repo_id"],
            "issue_id": issue["id"],
            "user_id": account["id"],
            "app_id": app_id,
            "body": body,
            "created_at": now,
            "updated_at": now,
        },
    )
    world.store.put("issue", issue | {"updated_at": now})
    emit_comment(world, comment, account, "created")
    return comment


def emit_comment(world: World, comment: Doc, account: Doc, action: str, **more: Json) -> None:
    """Send `issue_comment`; it never names the head commit."""
    repo = world.store.must("repo", comment["repo_id"])
    issue = world.store.must("issue", comment["issue_id"])
    payload = webhooks.about(
        world,
        repo,
        account,
        action=action,
        issue=work.issue(world, issue),
        comment=work.comment(world, comment),
        **more,
    )
    webhooks.emit(world, "issue_comment", payload, repo)


def _comment(call: Call, *needs: str) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, *needs)
    found = call.store.get("comment", call.number("comment_id"))
    if found is None or found["repo_id"] != repo["id"]:
        raise not_found()
    return found


def get_comment(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/issues/comments/{comment_id}."""
    comment = _comment(call, "issues:read", "pull_requests:read")
    return Answer(json=work.comment(call.world, comment))


def update_comment(call: Call) -> Answer:
    """PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}."""
    comment = _comment(call, *_ABOUT_COMMENTS)
    _own(call, comment)
    body = _body(call)
    before = comment["body"]
    comment |= {"body": body, "updated_at": call.store.stamp()}
    call.store.put("comment", comment)
    changes = {"body": {"from": before}}
    emit_comment(call.world, comment, call.caller.user or {}, "edited", changes=changes)
    return Answer(json=work.comment(call.world, comment))


def _own(call: Call, comment: Doc) -> None:
    account = call.caller.user or {}
    if comment["user_id"] == account.get("id"):
        return
    repo = call.store.must("repo", comment["repo_id"])
    if call.caller.kind == "user" and call.world.may(repo, account, "write"):
        return
    if call.caller.is_integration:
        return  # an app with the right to write may moderate
    raise ApiError(403, "Must have admin rights to Repository.")


def delete_comment(call: Call) -> Answer:
    """DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}."""
    comment = _comment(call, *_ABOUT_COMMENTS)
    _own(call, comment)
    emit_comment(call.world, comment, call.caller.user or {}, "deleted")
    call.store.delete("comment", comment["id"])
    return Answer(status=204)


def list_reactions(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions."""
    comment = _comment(call, "issues:read")
    found = call.store.find("reaction", comment_id=comment["id"])
    return page(call, [work.reaction(call.world, r) for r in found])


def create_reaction(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions."""
    comment = _comment(call, "issues:write")
    content = call.json().get("content")
    if content not in work.REACTIONS:
        raise unprocessable(f"{content!r} is not one of {', '.join(work.REACTIONS)}.")
    account = call.caller.user or {}
    key = {"comment_id": comment["id"], "user_id": account["id"], "content": content}
    found = call.store.first("reaction", **key)
    if found:
        return Answer(json=work.reaction(call.world, found))
    made = call.store.put("reaction", {**key, "created_at": call.store.stamp()})
    return Answer(status=201, json=work.reaction(call.world, made))


def delete_reaction(call: Call) -> Answer:
    """DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions/{reaction_id}."""
    comment = _comment(call, "issues:write")
    found = call.store.get("reaction", call.number("reaction_id"))
    if found is None or found["comment_id"] != comment["id"]:
        raise not_found()
    call.store.delete("reaction", found["id"])
    return Answer(status=204)


_REPO = "/repos/{owner}/{repo}"
_COMMENT = f"{_REPO}/issues/comments/{{comment_id}}"
_COMMENTS = f"{_REPO}/issues/{{issue_number}}/comments"
ROUTES = (
    Route(method="GET", template=f"{_REPO}/pulls", handler=list_pulls),
    Route(method="GET", template=f"{_REPO}/pulls/{{pull_number}}", handler=get_pull),
    Route(method="GET", template=f"{_REPO}/pulls/{{pull_number}}/files", handler=pull_files),
    Route(method="GET", template=f"{_REPO}/pulls/{{pull_number}}/commits", handler=pull_commits),
    Route(method="GET", template=_COMMENT, handler=get_comment),
    Route(method="PATCH", template=_COMMENT, handler=update_comment),
    Route(method="DELETE", template=_COMMENT, handler=delete_comment),
    Route(method="GET", template=f"{_COMMENT}/reactions", handler=list_reactions),
    Route(method="POST", template=f"{_COMMENT}/reactions", handler=create_reaction),
    Route(
        method="DELETE", template=f"{_COMMENT}/reactions/{{reaction_id}}", handler=delete_reaction
    ),
    Route(method="GET", template=f"{_REPO}/issues/{{issue_number}}", handler=get_issue),
    Route(method="GET", template=_COMMENTS, handler=list_comments),
    Route(method="POST", template=_COMMENTS, handler=create_comment, notifies=True),
)
