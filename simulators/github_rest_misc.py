"""REST: commit statuses, dispatches, users and what GitHub says about itself."""

from __future__ import annotations

import json

from simulators import github_events as events
from simulators import github_shapes as shapes
from simulators import github_webhooks as webhooks
from simulators.github_auth import allowed, repo_of
from simulators.github_gate import VERSIONS
from simulators.github_http import (
    Answer,
    ApiError,
    Call,
    Route,
    invalid,
    need_commit,
    not_found,
    page,
    unprocessable,
)
from simulators.github_state import Doc, Json, node_id

STATES = ("error", "failure", "pending", "success")
PER_CONTEXT = 1000
DESCRIPTION_LIMIT = 140
INPUTS_LIMIT = 25  # https://docs.github.com/rest/actions/workflows (dispatch event)
# https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows#repository_dispatch
EVENT_TYPE_LIMIT = 100
PAYLOAD_WIDTH = 10  # top-level properties
PAYLOAD_LIMIT = 65_535  # characters


def create_status(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/statuses/{sha}."""
    repo = repo_of(call)
    allowed(call, repo, "statuses:write")
    wish, sha = call.json(), call.args["sha"]
    if not call.world.git(repo).has_object(sha):
        raise ApiError(422, f"No commit found for SHA: {sha}")
    if wish.get("state") not in STATES:
        raise invalid("Status", "state", "custom", "state is not included in the list")
    if len(wish.get("description") or "") > DESCRIPTION_LIMIT:
        message = f"description is too long (maximum is {DESCRIPTION_LIMIT} characters)"
        raise invalid("Status", "description", "custom", message)
    context = wish.get("context") or "default"
    known = call.store.find("status", repo_id=repo["id"], sha=sha, context=context)
    if len(known) >= PER_CONTEXT:
        message = "This SHA and context has reached the maximum number of statuses."
        raise ApiError(422, "Validation Failed", errors=[message])
    now = call.store.stamp()
    status = call.store.put(
        "status",
        {
            "repo_id": repo["id"],
            "sha": sha,
            "context": context,
            "state": wish["state"],
            "description": wish.get("description"),
            "target_url": wish.get("target_url"),
            "user_id": (call.caller.user or {})["id"],
            "created_at": now,
            "updated_at": now,
        },
    )
    return Answer(status=201, json=_status(call, repo, status))


def _status(call: Call, repo: Doc, status: Doc) -> Doc:
    creator = shapes.author(call.world, status["user_id"])
    names = ("id", "state", "description", "target_url", "context", "created_at", "updated_at")
    return {name: status[name] for name in names} | {
        "url": shapes.api_url(call.world, repo, f"/statuses/{status['sha']}"),
        "avatar_url": creator["avatar_url"],
        "node_id": node_id("SC", status["id"]),
        "creator": creator,
    }


def list_statuses(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits/{ref}/statuses."""
    repo = repo_of(call)
    allowed(call, repo, "statuses:read")
    sha = need_commit(call.world.git(repo), call.args["ref"])
    found = reversed(call.store.find("status", repo_id=repo["id"], sha=sha))
    return page(call, [_status(call, repo, s) for s in found])


def dispatch_workflow(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches."""
    repo = repo_of(call)
    allowed(call, repo, "actions:write")
    wish = call.json()
    ref, inputs = wish.get("ref"), wish.get("inputs") or {}
    if not isinstance(ref, str):
        raise unprocessable('"ref" wasn\'t supplied.')
    if len(inputs) > INPUTS_LIMIT:
        raise ApiError(422, f"Too many inputs: at most {INPUTS_LIMIT} are allowed")
    full_ref = _full_ref(call, repo, ref)
    path = f".github/workflows/{call.args['workflow_id']}"
    _dispatchable(call, repo, full_ref, path)
    payload = webhooks.about(
        call.world, repo, call.caller.user or {}, inputs=inputs or None, ref=full_ref, workflow=path
    )
    webhooks.emit(call.world, "workflow_dispatch", payload, repo)
    events.note(call.world, "workflow_dispatch", payload)
    return Answer(status=204)


def _full_ref(call: Call, repo: Doc, ref: str) -> str:
    refs = call.world.git(repo).refs()
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}"):
        if name in refs:
            return name
    raise ApiError(422, f"No ref found for: {ref}")


def _dispatchable(call: Call, repo: Doc, ref: str, path: str) -> None:
    git = call.world.git(repo)
    entry = git.entry(git.resolve(repo["default_branch"]) or "", path)
    if entry is None:
        raise not_found()
    here = git.entry(git.resolve(ref) or "", path)
    if here is None or b"workflow_dispatch" not in git.blob(here.sha):
        raise ApiError(422, "Workflow does not have 'workflow_dispatch' trigger")


def dispatch_repository(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/dispatches."""
    repo = repo_of(call)
    allowed(call, repo, "contents:write")
    wish = call.json()
    kind = _event_type(wish)
    _check_payload(wish.get("client_payload"))
    payload = webhooks.about(
        call.world,
        repo,
        call.caller.user or {},
        action=kind,
        branch=repo["default_branch"],
        client_payload=wish.get("client_payload"),
    )
    webhooks.emit(call.world, "repository_dispatch", payload, repo)
    events.note(call.world, "repository_dispatch", payload)
    return Answer(status=204)


def _event_type(wish: Doc) -> str:
    kind = wish.get("event_type")
    if not isinstance(kind, str) or not kind:
        raise unprocessable('"event_type" wasn\'t supplied.')
    if len(kind) > EVENT_TYPE_LIMIT:
        raise unprocessable(
            f"Only {EVENT_TYPE_LIMIT} characters are allowed; {len(kind)} were supplied."
        )
    return kind


def _check_payload(payload: Json) -> None:
    """Refuse what is no object, too wide or too large, in the words that GitHub was seen to use.

    https://github.com/prowler-cloud/prowler/pull/12370,
    https://github.com/mvasigh/dispatch-action/issues/23
    """
    if payload is None:
        return
    if not isinstance(payload, dict):
        raise unprocessable(f"For 'properties/client_payload', {payload!r} is not an object.")
    if len(payload) > PAYLOAD_WIDTH:
        raise unprocessable(
            f"No more than {PAYLOAD_WIDTH} properties are allowed; {len(payload)} were supplied."
        )
    if len(json.dumps(payload)) > PAYLOAD_LIMIT:
        raise ApiError(422, "client_payload is too large.")


def get_user(call: Call) -> Answer:
    """GET /users/{username}."""
    account = call.world.find_account(call.args["username"])
    if account is None:
        raise not_found()
    return Answer(json=_person(call, account))


def get_self(call: Call) -> Answer:
    """GET /user."""
    if call.caller.kind != "user":
        status = 401 if call.caller.kind == "anonymous" else 403
        words = (
            "Requires authentication" if status == 401 else "Resource not accessible by integration"
        )
        raise ApiError(status, words)
    return Answer(json=_person(call, call.caller.user or {}))


def _person(call: Call, account: Doc) -> Doc:
    empty = ("company", "location", "email", "hireable", "bio", "twitter_username")
    counts = ("public_repos", "public_gists", "followers", "following")
    return (
        shapes.user(call.world, account)
        | {"name": account["login"], "blog": ""}
        | dict.fromkeys(empty)
        | dict.fromkeys(counts, 0)
        | {"created_at": account["created_at"], "updated_at": account["created_at"]}
    )


def meta(_: Call) -> Answer:
    """GET /meta."""
    loopback = ["127.0.0.0/8"]
    names = ("hooks", "web", "api", "git", "packages", "pages", "importer", "actions")
    return Answer(
        json={"verifiable_password_authentication": False} | dict.fromkeys(names, loopback)
    )


def versions(_: Call) -> Answer:
    """GET /versions."""
    return Answer(json=sorted(VERSIONS, reverse=True))


def root(call: Call) -> Answer:
    """GET /."""
    base = f"{call.store.base_url}/api"
    return Answer(json={"current_user_url": f"{base}/user", "rate_limit_url": f"{base}/rate_limit"})


_REPO = "/repos/{owner}/{repo}"
ROUTES = (
    Route(method="POST", template=f"{_REPO}/statuses/{{sha}}", handler=create_status),
    Route(method="GET", template=f"{_REPO}/commits/{{ref...}}/statuses", handler=list_statuses),
    # The old name, which PyGithub still uses and GitHub still answers.
    Route(method="GET", template=f"{_REPO}/statuses/{{ref...}}", handler=list_statuses),
    Route(
        method="POST",
        template=f"{_REPO}/actions/workflows/{{workflow_id}}/dispatches",
        handler=dispatch_workflow,
    ),
    Route(method="POST", template=f"{_REPO}/dispatches", handler=dispatch_repository),
    Route(method="GET", template="/users/{username}", handler=get_user),
    Route(method="GET", template="/user", handler=get_self),
    Route(method="GET", template="/meta", handler=meta),
    Route(method="GET", template="/versions", handler=versions),
    Route(method="GET", template="/", handler=root),
)
