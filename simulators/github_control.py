"""Control endpoints under `/_sim/` that make and change the world."""

from __future__ import annotations

from simulators import github_shapes as shapes
from simulators import github_webhooks as webhooks
from simulators.github_auth import new_user_token
from simulators.github_http import Answer, ApiError, Call, Route, not_found
from simulators.github_installing import brief, install_app
from simulators.github_rest_apps import suspend_installation
from simulators.github_state import Doc, Json
from simulators.github_world import ROLES


def need(wish: Doc, name: str) -> Json:
    """Return what a control request must say. Raises: ApiError (422)."""
    if name not in wish:
        raise ApiError(422, f"{name}: is missing.")
    return wish[name]


def repo_named(call: Call, full_name: str | None = None) -> Doc:
    """Return the repository in the path, or of that name. Raises: ApiError (404)."""
    name = full_name or f"{call.args['owner']}/{call.args['repo']}"
    owner, _, short = name.partition("/")
    found = call.world.find_repo(owner, short)
    if found is None:
        raise ApiError(404, f"repo: there is no repository {name!r}.")
    return found


def create_app(call: Call) -> Answer:
    """POST /_sim/app {name?, owner?, webhook_url, webhook_secret, permissions, events, pem?}."""
    app, pem = call.world.create_app(call.json())
    names = ("id", "slug", "client_id", "name")
    return Answer(status=201, json={name: app[name] for name in names} | {"pem": pem})


def create_owner(call: Call) -> Answer:
    """POST /_sim/owners {login, type?}."""
    wish = call.json()
    account = call.world.account(need(wish, "login"), type_=wish.get("type", "Organization"))
    return Answer(status=201, json=account)


def create_user(call: Call) -> Answer:
    """POST /_sim/users {login, type?}: the account and a token, also its git password."""
    wish = call.json()
    account = call.world.account(need(wish, "login"), type_=wish.get("type", "User"))
    return Answer(status=201, json=account | {"token": new_user_token(call.world, account)})


def delete_user(call: Call) -> Answer:
    """DELETE /_sim/users/{user}: what it wrote becomes the ghost's."""
    account = call.world.find_account(call.args["user"])
    if account:
        call.store.delete("account", account["id"])
    return Answer(status=204)


def create_repo(call: Call) -> Answer:
    """POST /_sim/repos {owner, name, default_branch?, private?, open?, fork_of?, created_at?}."""
    wish = call.json()
    owner = call.world.account(need(wish, "owner"))
    if call.world.find_repo(owner["login"], need(wish, "name")):
        raise ApiError(422, "name: already exists on this account.")
    parent = repo_named(call, wish["fork_of"]) if wish.get("fork_of") else None
    repo = call.world.create_repo(owner, wish | {"fork_of": parent["id"] if parent else None})
    if parent:
        source = str(call.world.git(parent).folder)
        call.world.git(repo).run("fetch", "--quiet", source, "refs/heads/*:refs/heads/*")
        repo |= {"known_refs": call.world.git(repo).refs(), "known_default": True}
        call.store.put("repo", repo)
    return Answer(status=201, json=_shown(call, repo))


def _shown(call: Call, repo: Doc) -> Doc:
    names = ("id", "name", "default_branch", "private", "open")
    return {name: repo[name] for name in names} | {
        "full_name": call.world.full_name(repo),
        "owner": call.world.owner(repo),
        "clone_url": shapes.html_url(call.world, repo, ".git"),
    }


def change_repo(call: Call) -> Answer:
    """PATCH /_sim/repos/{owner}/{repo} {name? | owner?, private?, immutable_releases?, …}."""
    repo, wish = repo_named(call), call.json()
    before, owner = call.world.full_name(repo), call.world.owner(repo)
    flags = ("private", "immutable_releases", "open", "immutable_sub", "default_branch")
    repo |= {name: wish[name] for name in flags if name in wish}
    if "name" in wish:
        _moved(call, repo, before, {"name": wish["name"]})
        changes: Doc = {"repository": {"name": {"from": before.split("/")[1]}}}
        _tell_repo(call, repo, "renamed", changes=changes)
    if "owner" in wish:
        new_owner = call.world.account(wish["owner"])
        _moved(call, repo, before, {"owner_id": new_owner["id"]})
        side = "organization" if owner["type"] == "Organization" else "user"
        changes = {"owner": {"from": {side: _mover(call, owner)}}}
        _tell_repo(call, repo, "transferred", changes=changes)
    call.store.put("repo", repo)
    return Answer(json=_shown(call, repo))


def _mover(call: Call, owner: Doc) -> Doc:
    if owner["type"] == "Organization":
        return webhooks.organization(call.world, owner)
    return shapes.user(call.world, owner)


def _moved(call: Call, repo: Doc, before: str, change: Doc) -> None:
    call.store.put("rename", {"full_name": before.lower(), "repo_id": repo["id"]})
    call.store.put("repo", repo | change | {"immutable_sub": True})
    repo |= change | {"immutable_sub": True}


def _tell_repo(call: Call, repo: Doc, action: str, **more: Json) -> None:
    payload = webhooks.about(call.world, repo, call.world.owner(repo), action=action, **more)
    webhooks.emit(call.world, "repository", payload, repo)


def delete_repo(call: Call) -> Answer:
    """DELETE /_sim/repos/{owner}/{repo}."""
    repo = repo_named(call)
    _tell_repo(call, repo, "deleted")
    call.world.delete_repo(repo)
    return Answer(status=204)


def set_collaborator(call: Call) -> Answer:
    """PUT /_sim/repos/{owner}/{repo}/collaborators/{user} {permission, role_name?}."""
    repo, wish = repo_named(call), call.json()
    role = wish.get("permission", "write")
    if role not in ROLES:
        raise ApiError(422, f"permission: should be one of {ROLES}, found {role!r}.")
    user = call.world.account(call.args["user"])
    repo["collaborators"][str(user["id"])] = role
    custom = {
        key: name for key, name in repo.get("custom_roles", {}).items() if key != str(user["id"])
    }
    if wish.get("role_name"):
        custom[str(user["id"])] = wish["role_name"]
    repo["custom_roles"] = custom
    call.store.put("repo", repo)
    return Answer(status=204)


def install(call: Call) -> Answer:
    """POST /_sim/installations {app_id, owner, repositories?: [names], permissions?, events?}."""
    wish, world = call.json(), call.world
    app = call.store.get("app", int(need(wish, "app_id")))
    if app is None:
        raise not_found()
    owner = world.account(need(wish, "owner"))
    names = wish.get("repositories")
    repos = [
        repo_named(call, f"{owner['login']}/{name.rpartition('/')[2]}") for name in names or []
    ]
    covered = None if names is None else [repo["id"] for repo in repos]
    rights = {name: wish[name] for name in ("permissions", "events") if wish.get(name)}
    return Answer(status=201, json=install_app(world, app, owner, covered, **rights))


def _installation(call: Call) -> Doc:
    found = call.store.get("installation", call.number("id"))
    if found is None:
        raise not_found()
    return found


def change_installation(call: Call) -> Answer:
    """PATCH /_sim/installations/{id} {suspended?, add?, remove?: [names], permissions?}."""
    installation, wish, world = _installation(call), call.json(), call.world
    if "suspended" in wish:
        suspend_installation(call, installation, on=bool(wish["suspended"]))
    if "permissions" in wish:
        installation["permissions"] = wish["permissions"]
    owner = call.store.must("account", installation["account_id"])
    for action in ("add", "remove"):
        repos = [repo_named(call, f"{owner['login']}/{name}") for name in wish.get(action, [])]
        if repos:
            _reselect(call, installation, action, repos)
    call.store.put("installation", installation)
    return Answer(json=shapes.installation(world, installation))


def _reselect(call: Call, installation: Doc, action: str, repos: list[Doc]) -> None:
    ids = set(installation["repo_ids"])
    changed = {repo["id"] for repo in repos}
    installation["repo_ids"] = sorted(ids | changed if action == "add" else ids - changed)
    call.store.put("installation", installation)
    briefs = [brief(call.world, repo) for repo in repos]
    payload = {
        "action": "added" if action == "add" else "removed",
        "installation": shapes.installation(call.world, installation),
        "repository_selection": installation["selection"],
        "repositories_added": briefs if action == "add" else [],
        "repositories_removed": briefs if action == "remove" else [],
        "requester": None,
        "sender": shapes.author(call.world, installation["account_id"]),
    }
    webhooks.emit_to(call.world, installation, "installation_repositories", payload)


def uninstall(call: Call) -> Answer:
    """DELETE /_sim/installations/{id}."""
    installation = _installation(call)
    payload = {
        "action": "deleted",
        "installation": shapes.installation(call.world, installation),
        "sender": shapes.author(call.world, installation["account_id"]),
    }
    webhooks.emit_to(call.world, installation, "installation", payload)
    call.store.delete("installation", installation["id"])
    return Answer(status=204)


_REPO = "/repos/{owner}/{repo}"
ROUTES = (
    Route(method="POST", template="/app", handler=create_app),
    Route(method="POST", template="/owners", handler=create_owner),
    Route(method="POST", template="/users", handler=create_user),
    Route(method="DELETE", template="/users/{user}", handler=delete_user),
    Route(method="POST", template="/repos", handler=create_repo),
    Route(method="PATCH", template=_REPO, handler=change_repo),
    Route(method="DELETE", template=_REPO, handler=delete_repo),
    Route(method="PUT", template=f"{_REPO}/collaborators/{{user}}", handler=set_collaborator),
    Route(method="POST", template="/installations", handler=install),
    Route(method="PATCH", template="/installations/{id}", handler=change_installation),
    Route(method="DELETE", template="/installations/{id}", handler=uninstall),
)
