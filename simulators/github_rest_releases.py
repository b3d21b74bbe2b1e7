"""REST: releases and the tags they make."""

from __future__ import annotations

from simulators import github_shapes_work as work
from simulators import github_webhooks as webhooks
from simulators.github_auth import allowed, repo_of
from simulators.github_git import Git
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
from simulators.github_state import Doc

BODY_LIMIT = 125_000
_WORKFLOWS = ".github/workflows"
_TEXTS = ("tag_name", "target_commitish", "name", "body")
_FLAGS = ("draft", "prerelease")


def _writable(call: Call) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, "contents:write")
    return repo


def _sees_drafts(call: Call, repo: Doc) -> bool:
    # Drafts are for those with push access: https://docs.github.com/rest/releases/releases
    try:
        allowed(call, repo, "contents:write")
    except ApiError:
        return False
    return True


def _visible(call: Call) -> tuple[Doc, list[Doc]]:
    repo = repo_of(call)
    allowed(call, repo, "contents:read")
    found = list(reversed(call.store.find("release", repo_id=repo["id"])))
    if not _sees_drafts(call, repo):
        found = [r for r in found if not r["draft"]]
    return repo, found


def list_releases(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases."""
    _, found = _visible(call)
    return page(call, [work.release(call.world, r) for r in found])


def latest_release(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases/latest."""
    _, found = _visible(call)
    full = [r for r in found if not r["draft"] and not r["prerelease"]]
    if not full:
        raise not_found()
    return Answer(
        json=work.release(call.world, max(full, key=lambda r: (r["created_at"], r["id"])))
    )


def release_by_tag(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases/tags/{tag}: published ones only."""
    _, found = _visible(call)
    for release in found:
        if release["tag_name"] == call.args["tag"] and not release["draft"]:
            return Answer(json=work.release(call.world, release))
    raise not_found()


def one_release(call: Call, found: list[Doc]) -> Doc:
    """Return the release in the path among those the caller sees."""
    wanted = call.number("release_id")
    for release in found:
        if release["id"] == wanted:
            return release
    raise not_found()


def get_release(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/releases/{release_id}."""
    _, found = _visible(call)
    return Answer(json=work.release(call.world, one_release(call, found)))


def create_release(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/releases."""
    repo = _writable(call)
    wish = _checked(call.json())
    if not isinstance(wish.get("tag_name"), str) or not wish["tag_name"]:
        raise unprocessable('"tag_name" wasn\'t supplied.')
    _free_tag(call, repo, wish["tag_name"], draft=bool(wish.get("draft")), own=None)
    _checked_target(call, repo, wish)
    now = call.store.stamp()
    release = call.store.put(
        "release",
        {
            "repo_id": repo["id"],
            "author_id": (call.caller.user or {})["id"],
            "tag_name": wish["tag_name"],
            "target_commitish": wish.get("target_commitish") or repo["default_branch"],
            "name": wish.get("name"),
            "body": wish.get("body"),
            "draft": True,
            "prerelease": bool(wish.get("prerelease", False)),
            "immutable": False,
            "created_at": now,
            "updated_at": now,
            "published_at": None,
        },
    )
    if not wish.get("draft"):
        _publish(call, repo, release)
    _emit(call, repo, release, "created")
    shape = work.release(call.world, release)
    return Answer(status=201, json=shape, headers={"Location": shape["url"]})


def _checked(wish: Doc) -> Doc:
    for name in _TEXTS:
        if wish.get(name) is not None and not isinstance(wish[name], str):
            raise unprocessable(f"For 'properties/{name}', {wish[name]!r} is not a string.")
    for name in _FLAGS:
        if wish.get(name) is not None and not isinstance(wish[name], bool):
            raise unprocessable(f"For 'properties/{name}', {wish[name]!r} is not a boolean.")
    if len(wish.get("body") or "") > BODY_LIMIT:
        message = f"body is too long (maximum is {BODY_LIMIT} characters)"
        raise invalid("Release", "body", "custom", message)
    tag = wish.get("tag_name")
    if tag is not None and not _tag_is_valid(tag):
        raise invalid("Release", "tag_name", "custom", "tag_name is not a valid tag")
    return wish


def _tag_is_valid(tag: str) -> bool:
    # https://git-scm.com/docs/git-check-ref-format
    bad = ("..", "@{", "//", "\\", " ", "~", "^", ":", "?", "*", "[", "\x7f")
    if any(mark in tag for mark in bad) or any(ord(c) < 32 for c in tag):
        return False
    return not tag.startswith(("/", "-", ".")) and not tag.endswith(("/", ".lock", "."))


def _free_tag(call: Call, repo: Doc, tag: str, *, draft: bool, own: int | None) -> None:
    taken = call.store.find("release", repo_id=repo["id"], tag_name=tag)
    others = [r for r in taken if not r["draft"] and r["id"] != own]
    if others and not draft:
        raise invalid("Release", "tag_name", "already_exists")
    if not draft and tag in repo.get("reserved_tags", []):
        raise _reserved()


def _reserved() -> ApiError:
    """Return GitHub's answer for the name of a deleted immutable release, as people quote it.

    https://docs.github.com/code-security/concepts/supply-chain-security/immutable-releases: "you
    cannot reuse the same tag name".
    """
    rule = (
        "Repository rule violations found\n\nCannot create ref due to creations being restricted."
    )
    told = [
        {"field": "pre_receive", "message": f"pre_receive {rule}\n\n"},
        {"field": "tag_name", "message": "tag_name was used by an immutable release"},
        {"message": "Published releases must have a valid tag"},
    ]
    errors = [{"resource": "Release", "code": "custom", **one} for one in told]
    return ApiError(422, "Validation Failed", errors=errors)


def _checked_target(call: Call, repo: Doc, wish: Doc) -> None:
    git = call.world.git(repo)
    if git.refs().get(f"refs/tags/{wish['tag_name']}"):
        return  # the tag is there, the target is not looked at
    target = wish.get("target_commitish") or repo["default_branch"]
    commit = git.resolve(target)
    if commit is None:
        if wish.get("draft"):
            return
        raise invalid("Release", "target_commitish", "invalid")
    if _touches_workflows(git, repo, commit) and not _may_change_workflows(call):
        # https://docs.github.com/rest/releases/releases#create-a-release
        raise not_found("https://docs.github.com/rest/releases/releases#create-a-release")


def _may_change_workflows(call: Call) -> bool:
    return call.caller.kind == "user" or call.caller.permissions.get("workflows") == "write"


def _touches_workflows(git: Git, repo: Doc, commit: str) -> bool:
    default = git.resolve(repo["default_branch"])
    if default is None:
        return False
    return _workflow_tree(git, default) != _workflow_tree(git, commit)


def _workflow_tree(git: Git, commit: str) -> str | None:
    entry = git.entry(commit, _WORKFLOWS)
    return entry.sha if entry else None


def _publish(call: Call, repo: Doc, release: Doc) -> None:
    git = call.world.git(repo)
    ref = f"refs/tags/{release['tag_name']}"
    if ref not in git.refs():
        commit = git.resolve(release["target_commitish"])
        if commit is None:
            raise invalid("Release", "target_commitish", "invalid")
        git.set_ref(ref, commit)
        repo["known_refs"] = {**repo["known_refs"], ref: commit}
        call.store.put("repo", repo)
    release |= {
        "draft": False,
        "published_at": release["published_at"] or call.store.stamp(),
        "immutable": repo["immutable_releases"],
    }
    call.store.put("release", release)
    if release["immutable"]:
        git.run("config", "--add", "receive.hideRefs", ref)  # the tag can never be moved
        reserved = {*repo.get("reserved_tags", []), release["tag_name"]}
        call.store.put("repo", repo | {"reserved_tags": sorted(reserved)})
    _emit(call, repo, release, "published")
    _emit(call, repo, release, "prereleased" if release["prerelease"] else "released")


def _emit(call: Call, repo: Doc, release: Doc, action: str) -> None:
    payload = webhooks.about(
        call.world,
        repo,
        call.caller.user or {},
        action=action,
        release=work.release(call.world, release),
    )
    webhooks.emit(call.world, "release", payload, repo)


def _writable_release(call: Call) -> tuple[Doc, Doc]:
    repo = _writable(call)
    release = call.store.get("release", call.number("release_id"))
    if release is None or release["repo_id"] != repo["id"]:
        raise not_found()
    return repo, release


def update_release(call: Call) -> Answer:
    """PATCH /repos/{owner}/{repo}/releases/{release_id}."""
    repo, release = _writable_release(call)
    wish = _checked(call.json())
    tag = wish.get("tag_name") or release["tag_name"]
    if release["immutable"] and (tag != release["tag_name"] or wish.get("draft")):
        raise invalid("Release", "tag_name", "custom", "Cannot modify an immutable release")
    publishing = release["draft"] and wish.get("draft") is False
    if publishing or tag != release["tag_name"]:
        _free_tag(call, repo, tag, draft=not publishing and release["draft"], own=release["id"])
        _checked_target(call, repo, {**release, **wish, "tag_name": tag})
    names = (*_TEXTS, "prerelease")
    release |= {name: wish[name] for name in names if wish.get(name) is not None}
    release["updated_at"] = call.store.stamp()
    if wish.get("draft") is True:
        release |= {"draft": True}
    call.store.put("release", release)
    if publishing:
        _publish(call, repo, release)
    else:
        _emit_edit(call, repo, release)
    return Answer(json=work.release(call.world, release))


def _emit_edit(call: Call, repo: Doc, release: Doc) -> None:
    payload = webhooks.about(
        call.world,
        repo,
        call.caller.user or {},
        action="edited",
        changes={},
        release=work.release(call.world, release),
    )
    webhooks.emit(call.world, "release", payload, repo)


def delete_release(call: Call) -> Answer:
    """DELETE /repos/{owner}/{repo}/releases/{release_id}: the tag stays."""
    repo, release = _writable_release(call)
    _emit(call, repo, release, "deleted")
    for asset in call.store.find("asset", release_id=release["id"]):
        call.store.delete("asset", asset["id"])
    call.store.delete("release", release["id"])
    return Answer(status=204)


def delete_tag(call: Call) -> Answer:
    """DELETE /repos/{owner}/{repo}/git/refs/tags/{tag}; an immutable release keeps its own."""
    repo = _writable(call)
    git, tag = call.world.git(repo), call.args["tag"]
    ref = f"refs/tags/{tag}"
    if ref not in git.refs():
        raise ApiError(422, "Reference does not exist")
    found = call.store.find("release", repo_id=repo["id"], tag_name=tag)
    if any(release["immutable"] for release in found):
        rule = "Repository rule violations found\n\nCannot delete this tag\n\n"
        raise ApiError(422, rule)
    git.delete_ref(ref)
    known = {name: sha for name, sha in repo["known_refs"].items() if name != ref}
    call.store.put("repo", repo | {"known_refs": known})
    return Answer(status=204)


def get_immutable(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/immutable-releases."""
    repo = _administered(call, "read")
    if not repo["immutable_releases"]:
        raise not_found()
    return Answer(json={"enabled": True, "enforced_by_owner": False})


def _administered(call: Call, level: str) -> Doc:
    repo = repo_of(call)
    if call.caller.is_integration and not repo["private"]:
        # Reading a setting is not reading something public.
        if "administration" not in call.caller.permissions:
            raise ApiError(403, "Resource not accessible by integration")
        return repo
    allowed(call, repo, f"administration:{level}")
    return repo


def set_immutable(call: Call) -> Answer:
    """PUT or DELETE /repos/{owner}/{repo}/immutable-releases; for releases yet to come."""
    repo = _administered(call, "write")
    call.store.put("repo", repo | {"immutable_releases": call.method == "PUT"})
    return Answer(status=204)


_REPO = "/repos/{owner}/{repo}"
_RELEASES = f"{_REPO}/releases"
_IMMUTABLE = f"{_REPO}/immutable-releases"
ROUTES = (
    Route(method="GET", template=_RELEASES, handler=list_releases),
    Route(method="POST", template=_RELEASES, handler=create_release, notifies=True),
    Route(method="GET", template=f"{_RELEASES}/latest", handler=latest_release),
    Route(method="GET", template=f"{_RELEASES}/tags/{{tag...}}", handler=release_by_tag),
    Route(method="GET", template=f"{_RELEASES}/{{release_id}}", handler=get_release),
    Route(method="PATCH", template=f"{_RELEASES}/{{release_id}}", handler=update_release),
    Route(method="DELETE", template=f"{_RELEASES}/{{release_id}}", handler=delete_release),
    Route(method="DELETE", template=f"{_REPO}/git/refs/tags/{{tag...}}", handler=delete_tag),
    Route(method="GET", template=_IMMUTABLE, handler=get_immutable),
    Route(method="PUT", template=_IMMUTABLE, handler=set_immutable),
    Route(method="DELETE", template=_IMMUTABLE, handler=set_immutable),
)
