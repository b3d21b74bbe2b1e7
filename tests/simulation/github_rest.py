"""GitHub's REST API over what is kept in memory: a request in, a status and a JSON value out.

Each rule of GitHub's that our code rests on has its address beside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from tests.simulation.github import (
    APP_ID,
    AssetRow,
    CheckRow,
    CommentRow,
    Github,
    PullRow,
    ReleaseRow,
    Repo,
)

_TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class Refusal(Exception):  # noqa: N818 - reads as what it is
    """GitHub answers with this status."""

    status: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, after its path was matched."""

    github: Github
    repo: Repo
    parts: Mapping[str, str]
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    data: bytes = b""

    def number(self, name: str) -> int:
        """Return a part of the path that is a number."""
        return int(self.parts[name])


Handler = Callable[[Request], Any]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def _route(verb: str, path: str) -> Callable[[Handler], Handler]:
    pattern = re.compile("/repos/(?P<owner>[^/]+)/(?P<repo>[^/]+)" + path)

    def keep(handler: Handler) -> Handler:
        _ROUTES.append((verb, pattern, handler))
        return handler

    return keep


def answer(
    github: Github,
    verb: str,
    path: str,
    *,
    token: str | None,
    parameters: Mapping[str, Any],
    body: Mapping[str, Any] | None,
    data: bytes = b"",
) -> Any:
    """Return GitHub's JSON value. Raises: Refusal."""
    if token is None:
        return _of_app(github, verb, path, parameters, body or {})
    for route_verb, pattern, handler in _ROUTES:
        found = pattern.fullmatch(path) if route_verb == verb else None
        if found is not None:
            parts = {name: unquote(text) for name, text in found.groupdict().items()}
            request = Request(
                github=github,
                repo=_reached(github, token, f"{parts['owner']}/{parts['repo']}"),
                parts=parts,
                parameters=parameters,
                body=body or {},
                data=data,
            )
            return handler(request)
    raise Refusal(404, f"no such path: {verb} {path}")


def _reached(github: Github, token: str, full_name: str) -> Repo:
    known = github.tokens.get(token)
    if known is None or known[2] <= github.now():
        raise Refusal(401, "Bad credentials")
    repo = github.repo_named(full_name)
    if repo is None or repo.id not in known[1] or not repo.has_app:
        raise Refusal(404, "Not Found")  # as to whoever may not see it
    return repo


# ── as the app itself ───────────────────────────────────────────────────────────────────────────


def _of_app(
    github: Github, verb: str, path: str, parameters: Mapping[str, Any], body: Mapping[str, Any]
) -> Any:
    if path.startswith("/app/hook/deliveries"):
        return _hook(github, verb, path, parameters)
    found = re.fullmatch(r"/repos/([^/]+/[^/]+)/installation", path)
    if found:
        repo = github.repo_named(found[1])
        if repo is None or not repo.has_app:
            raise Refusal(404, "Not Found")
        return {"id": repo.installation_id}
    found = re.fullmatch(r"/app/installations/(\d+)", path)
    if found and verb == "GET":
        if not any(r.installation_id == int(found[1]) and r.has_app for r in github.repos.values()):
            raise Refusal(404, "Not Found")
        return {"id": int(found[1]), "suspended_at": None}
    found = re.fullmatch(r"/app/installations/(\d+)/access_tokens", path)
    if found and verb == "POST":
        return _token(github, int(found[1]), body)
    raise Refusal(404, f"no such path: {verb} {path}")


def _hook(github: Github, verb: str, path: str, parameters: Mapping[str, Any]) -> Any:
    """https://docs.github.com/rest/apps/webhooks: newest first, three days."""
    if verb == "POST":
        github.redeliver(int(path.split("/")[4]))
        return None
    failed_only = parameters.get("status") == "failure"
    return [
        {
            "id": sent.id,
            "guid": sent.guid,
            "delivered_at": sent.delivered_at.isoformat(),
            "status_code": sent.status,
        }
        for sent in reversed(github.deliveries)
        if sent.genuine and not (failed_only and sent.acked)
    ][:100]


def _token(github: Github, installation_id: int, body: Mapping[str, Any]) -> Any:
    """https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app."""
    wanted = frozenset(body.get("repository_ids", ()))
    theirs = {r.id for r in github.repos.values() if r.installation_id == installation_id}
    if not wanted or not wanted <= theirs:
        raise Refusal(422, "There is at least one repository that does not exist")
    token, ends_at = f"ghs_{github.new_id()}", github.now() + _TOKEN_LIFE
    github.tokens[token] = (installation_id, wanted, ends_at)
    for repository_id in sorted(wanted):
        github.note("token.made", github.repos[repository_id])
    return {"token": token, "expires_at": ends_at.isoformat()}


# ── repositories and files ──────────────────────────────────────────────────────────────────────


@_route("GET", "")
def _repository(request: Request) -> Any:
    return request.repo.told()


@_route("GET", "/branches/(?P<branch>[^/]+)")
def _branch(request: Request) -> Any:
    sha = request.repo.branches.get(request.parts["branch"])
    if sha is None:
        raise Refusal(404, "Branch not found")
    return {"commit": {"sha": sha}}


@_route("GET", "/contents/(?P<path>.*)")
def _contents(request: Request) -> Any:
    repo, path = request.repo, request.parts["path"]
    ref = str(request.parameters.get("ref") or repo.default_branch)
    commit = repo.commits.get(repo.branches.get(ref, ref))
    if commit is None or not request.github.is_known(commit.known_at):
        raise Refusal(404, f"No commit found for the ref {ref}")
    if path == "":
        return [
            {"name": name, "type": "file", "size": len(data), "download_url": "x"}
            for name, data in sorted(commit.files.items())
            if "/" not in name
        ]
    if path not in commit.files:
        raise Refusal(404, "Not Found")
    content = base64.b64encode(commit.files[path]).decode()
    return {"type": "file", "encoding": "base64", "content": content}


@_route("GET", "/collaborators/(?P<login>[^/]+)/permission")
def _permission(request: Request) -> Any:
    account = request.github.accounts.get(request.parts["login"])
    if account is None:
        raise Refusal(404, "Not Found")
    role = request.repo.roles.get(account.login, "none")
    request.github.note("role.told", request.repo, account.id, login=account.login, role=role)
    return {"permission": role, "role_name": role, "user": account.told()}


@_route("POST", "/dispatches")
def _dispatch(request: Request) -> Any:
    request.repo.dispatched.append(dict(request.body))
    payload = dict(request.body.get("client_payload", {}))
    request.github.note("dispatched", request.repo, payload=payload)
    request.github.dispatch(request.repo, payload)
    return None


# ── pull requests and comments ──────────────────────────────────────────────────────────────────


def _pull_row(request: Request) -> PullRow:
    row = request.repo.pulls.get(request.number("number"))
    if row is None:
        raise Refusal(404, "Not Found")
    return row


@_route("GET", r"/pulls/(?P<number>\d+)")
def _pull(request: Request) -> Any:
    row = _pull_row(request)
    return {
        "number": row.number,
        "state": "open" if row.open else "closed",
        "draft": row.draft,
        "locked": row.locked,
        "updated_at": row.updated_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "user": row.author.told(),
        "head": {
            "sha": request.github.head_shown(row),
            "ref": row.branch,
            "repo": {"id": row.head_repository_id},
        },
        "base": {"sha": row.base_sha, "ref": row.base_branch, "repo": {"id": request.repo.id}},
    }


@_route("GET", r"/pulls/(?P<number>\d+)/files")
def _pull_files(request: Request) -> Any:
    row = _pull_row(request)
    head = request.repo.commits.get(request.github.head_shown(row))
    return [{"filename": name} for name in sorted(head.files if head else ())]


def _comment_told(row: CommentRow) -> dict[str, Any]:
    app = {"id": int(APP_ID)} if row.ours else None
    return {
        "id": row.id,
        "body": row.body,
        "user": row.author.told(),
        "html_url": f"https://github.test/comments/{row.id}",
        "performed_via_github_app": app,
    }


def _comment_row(request: Request) -> CommentRow:
    row = request.repo.comments.get(request.number("id"))
    if row is None or not request.github.is_known(row.known_at):
        raise Refusal(404, "Not Found")
    return row


@_route("GET", r"/issues/comments/(?P<id>\d+)")
def _comment(request: Request) -> Any:
    return _comment_told(_comment_row(request))


@_route("GET", r"/issues/(?P<number>\d+)/comments")
def _comments(request: Request) -> Any:
    if int(request.parameters.get("page", 1)) > 1:
        return []
    rows = (r for r in request.repo.comments.values() if r.number == request.number("number"))
    return [_comment_told(row) for row in rows if request.github.is_known(row.known_at)]


@_route("POST", r"/issues/(?P<number>\d+)/comments")
def _create_comment(request: Request) -> Any:
    us = request.github.account("cynthus[bot]", "Bot")
    body, number = str(request.body["body"]), request.number("number")
    return _comment_told(request.github.add_comment(request.repo, number, us, body, ours=True))


@_route("PATCH", r"/issues/comments/(?P<id>\d+)")
def _update_comment(request: Request) -> Any:
    row = request.repo.comments.get(request.number("id"))
    if row is None:
        raise Refusal(404, "Not Found")
    row.body = str(request.body["body"])
    request.github.note("comment.updated", request.repo, row.id, body=row.body, ours=row.ours)
    return _comment_told(row)


@_route("DELETE", r"/issues/comments/(?P<id>\d+)")
def _delete_comment(request: Request) -> Any:
    row = request.repo.comments.pop(request.number("id"), None)
    if row is None:
        raise Refusal(404, "Not Found")
    request.github.note("comment.deleted", request.repo, row.id, number=row.number, ours=row.ours)
    return None


@_route("POST", r"/issues/comments/(?P<id>\d+)/reactions")
def _react(request: Request) -> Any:
    row = _comment_row(request)
    if request.body["content"] not in row.reactions:  # a second one is the first one
        row.reactions.append(str(request.body["content"]))
    return {"id": row.id}


# ── check runs ──────────────────────────────────────────────────────────────────────────────────


def _check_told(row: CheckRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "external_id": row.external_id,
        "html_url": f"https://github.test/checks/{row.id}",
        "status": row.status,
        "conclusion": row.conclusion,
        "name": row.name,
        "head_sha": row.head_sha,
        "output": {"annotations_count": len(row.annotations)},
    }


@_route("POST", "/check-runs")
def _create_check(request: Request) -> Any:
    """https://docs.github.com/rest/checks/runs#create-a-check-run."""
    github, repo, body = request.github, request.repo, request.body
    commit = repo.commits.get(body["head_sha"])
    if commit is None or not github.is_known(commit.known_at):
        raise Refusal(422, f"No commit found for SHA: {body['head_sha']}")
    row = CheckRow(
        id=github.new_id(),
        head_sha=commit.sha,
        name=str(body["name"]),
        external_id=str(body.get("external_id", "")),
        known_at=github.known_at(),
    )
    repo.check_runs[row.id] = row
    _take(github, repo, row, body, "check_run.created")
    return _check_told(row)


@_route("PATCH", r"/check-runs/(?P<id>\d+)")
def _update_check(request: Request) -> Any:
    row = request.repo.check_runs.get(request.number("id"))
    if row is None:
        raise Refusal(404, "Not Found")
    _take(request.github, request.repo, row, request.body, "check_run.updated")
    return _check_told(row)


def _take(github: Github, repo: Repo, row: CheckRow, body: Mapping[str, Any], what: str) -> None:
    if row.status != "completed":  # https://github.com/orgs/community/discussions/24761
        row.conclusion = body.get("conclusion") or None
        row.status = "completed" if row.conclusion else str(body.get("status", row.status))
    output = dict(body.get("output", {}))
    row.annotations += output.pop("annotations", [])
    if len(output.get("summary", "")) > 65_535 or len(output.get("text", "")) > 65_535:
        raise Refusal(422, "output is too long")
    row.output = output or row.output
    row.actions = list(body.get("actions", row.actions))
    github.note(
        what,
        repo,
        row.id,
        external_id=row.external_id,
        head_sha=row.head_sha,
        name=row.name,
        status=row.status,
        conclusion=row.conclusion,
        asked=body.get("conclusion"),
        output=dict(row.output),
    )


@_route("GET", r"/check-runs/(?P<id>\d+)")
def _check(request: Request) -> Any:
    row = request.repo.check_runs.get(request.number("id"))
    if row is None:
        raise Refusal(404, "Not Found")
    return _check_told(row)


@_route("GET", "/commits/(?P<sha>[0-9a-f]{40})/check-runs")
def _checks_of_commit(request: Request) -> Any:
    rows = _known_checks(request)
    if request.parameters.get("filter") != "all":
        # Of one name the newest: `filter=latest` is what GitHub answers without a wish.
        # https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference
        rows = list({row.name: row for row in rows}.values())
    return {"check_runs": [_check_told(row) for row in rows]}


@_route("GET", r"/check-suites/(?P<id>\d+)/check-runs")
def _checks_of_suite(request: Request) -> Any:
    rows = list({row.name: row for row in request.repo.check_runs.values()}.values())
    return {"check_runs": [_check_told(row) for row in rows]}


def _known_checks(request: Request) -> list[CheckRow]:
    sha, github = request.parts["sha"], request.github
    rows = request.repo.check_runs.values()
    return [row for row in rows if row.head_sha == sha and github.is_known(row.known_at)]


# ── releases ────────────────────────────────────────────────────────────────────────────────────


def _release_told(repo: Repo, row: ReleaseRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tag_name": row.tag,
        "draft": row.draft,
        "html_url": f"https://github.test/releases/{row.id}",
        "upload_url": f"https://uploads.github.test/repos/{repo.full_name}/releases/{row.id}/assets{{?name}}",
        "body": row.body,
    }


def _asset_told(row: AssetRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "size": len(row.data),
        "state": "uploaded" if row.uploaded else "starter",
        "digest": f"sha256:{hashlib.sha256(row.data).hexdigest()}" if row.uploaded else None,
    }


def _release_row(request: Request) -> ReleaseRow:
    row = request.repo.releases.get(request.number("id"))
    if row is None:
        raise Refusal(404, "Not Found")
    return row


@_route("POST", "/releases")
def _create_release(request: Request) -> Any:
    body, repo = request.body, request.repo
    row = ReleaseRow(
        id=request.github.new_id(),
        tag=str(body["tag_name"]),
        commit=str(body["target_commitish"]),
        title=str(body["name"]),
        body=str(body["body"]),
        known_at=request.github.known_at(),
    )
    repo.releases[row.id] = row
    request.github.note("release.created", repo, row.id, tag=row.tag, body=row.body)
    return _release_told(repo, row)


@_route("GET", "/releases")
def _releases(request: Request) -> Any:
    if int(request.parameters.get("page", 1)) > 1:
        return []
    rows = request.repo.releases.values()
    return [_release_told(request.repo, r) for r in rows if request.github.is_known(r.known_at)]


@_route("GET", r"/releases/(?P<id>\d+)")
def _release(request: Request) -> Any:
    return _release_told(request.repo, _release_row(request))


@_route("PATCH", r"/releases/(?P<id>\d+)")
def _update_release(request: Request) -> Any:
    row, body, repo = _release_row(request), request.body, request.repo
    row.tag, row.body = body.get("tag_name", row.tag), body.get("body", row.body)
    if body.get("draft") is False and row.draft:
        others = (r for r in repo.releases.values() if r.id != row.id and not r.draft)
        if any(other.tag == row.tag for other in others):
            raise Refusal(422, "Validation Failed; already_exists")
        row.draft = False
        request.github.note("release.published", repo, row.id, tag=row.tag, files=_files(row))
    return _release_told(repo, row)


def _files(row: ReleaseRow) -> dict[str, tuple[int, str]]:
    told = ((a.name, len(a.data), a.data) for a in row.assets.values() if a.uploaded)
    return {name: (size, hashlib.sha256(data).hexdigest()) for name, size, data in told}


@_route("DELETE", r"/releases/(?P<id>\d+)")
def _delete_release(request: Request) -> Any:
    row = _release_row(request)
    del request.repo.releases[row.id]
    request.github.note("release.deleted", request.repo, row.id, tag=row.tag)
    return None


@_route("DELETE", r"/git/refs/tags/(?P<tag>.+)")
def _delete_tag(request: Request) -> Any:
    return None


@_route("GET", r"/releases/(?P<id>\d+)/assets")
def _assets(request: Request) -> Any:
    if int(request.parameters.get("page", 1)) > 1:
        return []
    return [_asset_told(row) for row in _release_row(request).assets.values()]


@_route("POST", r"/releases/(?P<id>\d+)/assets")
def _upload(request: Request) -> Any:
    row, name = _release_row(request), str(request.parameters["name"])
    if any(asset.name == name for asset in row.assets.values()):
        raise Refusal(422, "Validation Failed; already_exists")
    if not row.draft:
        request.github.note("release.changed", request.repo, row.id, tag=row.tag)
    asset = AssetRow(id=request.github.new_id(), name=name, data=request.data)
    row.assets[asset.id] = asset
    return _asset_told(asset)


@_route("DELETE", r"/releases/assets/(?P<id>\d+)")
def _delete_asset(request: Request) -> Any:
    for row in request.repo.releases.values():
        if row.assets.pop(request.number("id"), None) is not None:
            return None
    raise Refusal(404, "Not Found")


def manifest_of(row: ReleaseRow) -> Mapping[str, Any] | None:
    """Return the release's own list of its files; None: it has none."""
    for asset in row.assets.values():
        if asset.name == "manifest.json":
            found: Mapping[str, Any] = json.loads(asset.data)
            return found
    return None
