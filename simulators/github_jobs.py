"""Workflow runs and jobs, as the Actions simulator reports them."""

from __future__ import annotations

import posixpath
import re

from simulators import github_checks as checks
from simulators import github_oidc as oidc
from simulators import github_webhooks as webhooks
from simulators.github_auth import new_job_token
from simulators.github_http import Answer, ApiError, Call, Route, not_found
from simulators.github_state import Doc, node_id
from simulators.github_world import ACTIONS_APP_ID

# What GITHUB_TOKEN may do unless the workflow says otherwise (the restricted default).
DEFAULT_PERMISSIONS = {"contents": "read", "packages": "read"}
_LEVELS = {"notice": "notice", "warning": "warning", "error": "failure", "failure": "failure"}


def create_job(call: Call) -> Answer:
    """POST /_sim/workflow_jobs."""
    wish, world = call.json(), call.world
    owner, _, name = str(wish.get("repo", "")).partition("/")
    repo = world.find_repo(owner, name)
    if repo is None:
        raise not_found()
    sha = str(wish.get("sha", ""))
    if not world.git(repo).has_object(sha):
        raise ApiError(422, f"No commit found for SHA: {sha}")
    job = call.store.put("job", _job(call, repo, wish))
    app = call.store.must("app", ACTIONS_APP_ID)
    # The check run hangs on the head commit, also where the job runs on the trial merge.
    run = checks.create(
        world,
        repo,
        app,
        {
            "name": wish.get("job_name") or job["workflow"],
            "head_sha": str(wish.get("head_sha") or sha),
            "status": "queued",
            "external_id": str(job["id"]),
            "details_url": _page(call, repo, job),
        },
    )
    job["check_run_id"] = run["id"]
    permissions = wish.get("permissions")
    granted = dict(DEFAULT_PERMISSIONS if permissions is None else permissions)
    id_token = granted.pop("id-token", "none") == "write" and not job["fork"]
    if job["fork"]:  # forks: everything read, no id token
        granted = dict.fromkeys(granted, "read")
    token = new_job_token(world, repo, {k.replace("-", "_"): v for k, v in granted.items()})
    job |= {"github_token": token, "id_token": id_token or bool(wish.get("id_token"))}
    if job["fork"]:
        job["id_token"] = False
    call.store.put("job", job)
    return Answer(status=201, json=_handed_out(call, job))


def _job(call: Call, repo: Doc, wish: Doc) -> Doc:
    path = str(wish.get("workflow_path") or ".github/workflows/cynthus.yml")
    runs = call.store.find("job", repo_id=repo["id"])
    earlier = [job for job in runs if job["workflow_path"] == path]
    run_id = wish.get("run_id") or call.store.new_id("workflow_run")
    same = [job for job in earlier if job["run_id"] == run_id]
    number = same[0]["run_number"] if same else len({job["run_id"] for job in earlier}) + 1
    actor = call.world.account(str(wish.get("actor") or call.world.owner(repo)["login"]))
    return {
        "repo_id": repo["id"],
        "sha": wish["sha"],
        "ref": str(wish.get("ref") or f"refs/heads/{repo['default_branch']}"),
        "event": str(wish.get("event") or "push"),
        "workflow_path": path,
        "workflow": str(wish.get("workflow") or path),
        "name": str(wish.get("job_name") or posixpath.basename(path)),
        "actor_id": actor["id"],
        "head_ref": str(wish.get("head_ref") or ""),
        "base_ref": str(wish.get("base_ref") or ""),
        "environment": wish.get("environment"),
        "runner_environment": str(wish.get("runner_environment") or "github-hosted"),
        "fork": bool(wish.get("fork", False)),
        "run_id": run_id,
        "run_number": number,
        "run_attempt": int(wish.get("run_attempt") or 1),
        "status": "queued",
        "conclusion": None,
        "log": "",
        "request_token": oidc.new_request_token(),
        "created_at": call.store.stamp(),
    }


def _page(call: Call, repo: Doc, job: Doc) -> str:
    name = call.world.full_name(repo)
    return f"{call.store.base_url}/{name}/actions/runs/{job['run_id']}/job/{job['id']}"


def _handed_out(call: Call, job: Doc) -> Doc:
    shown = {
        "run_id": job["run_id"],
        "run_number": job["run_number"],
        "run_attempt": job["run_attempt"],
        "job_id": job["id"],
        "check_run_id": job["check_run_id"],
        "github_token": job["github_token"],
        "id_token_request_url": None,
        "id_token_request_token": None,
    }
    if job["id_token"]:
        # The query is there already: clients append `&audience=`.
        url = f"{oidc.issuer(call.world)}/token?api-version=2.0&job={job['id']}"
        shown |= {"id_token_request_url": url, "id_token_request_token": job["request_token"]}
    return shown


def change_job(call: Call) -> Answer:
    """PATCH /_sim/workflow_jobs/{id}."""
    job = call.store.get("job", call.number("id"))
    if job is None:
        raise not_found()
    wish = call.json()
    names = ("status", "conclusion")
    job |= {name: wish[name] for name in names if name in wish}
    job["log"] += str(wish.get("log") or "")
    if job["conclusion"]:
        job["status"] = "completed"
    call.store.put("job", job)
    run = call.store.must("check_run", job["check_run_id"])
    _mirror(call, job, run, wish)
    return Answer(json={"status": job["status"], "conclusion": job["conclusion"]})


def _mirror(call: Call, job: Doc, run: Doc, wish: Doc) -> None:
    change: Doc = {}
    if job["conclusion"]:
        change["conclusion"] = job["conclusion"]
    elif job["status"] != run["status"]:
        change["status"] = job["status"]
    summary, notes = wish.get("summary"), wish.get("annotations") or []
    if summary is not None or notes:
        change["output"] = {
            "title": job["name"],
            # The job's summary page takes 1 MiB; its check run shows what fits.
            "summary": str(summary or run["output"].get("summary") or "")[: checks.TEXT_LIMIT],
            "annotations": [_annotation(note) for note in notes],
        }
    checks.update(call.world, run, change)
    if job["conclusion"] and not job["fork"]:
        _emit_workflow_job(call, job, run)


def _annotation(note: Doc) -> Doc:
    start = max(1, int(note.get("start_line") or note.get("line") or 1))
    end = max(start, int(note.get("end_line") or start))
    shown: Doc = {
        "path": note.get("path") or note.get("file") or ".github",
        "start_line": start,
        "end_line": end,
        "annotation_level": _LEVELS.get(
            str(note.get("annotation_level") or note.get("level")), "notice"
        ),
        "message": str(note.get("message") or ""),
        "title": str(note.get("title") or ""),
    }
    for name in ("start_column", "end_column"):
        if note.get(name) is not None and start == end:
            shown[name] = int(note[name])
    return shown


def _emit_workflow_job(call: Call, job: Doc, run: Doc) -> None:
    repo = call.store.must("repo", job["repo_id"])
    base = f"{call.store.base_url}/api/repos/{call.world.full_name(repo)}/actions"
    shape = {
        "id": job["id"],
        "run_id": job["run_id"],
        "workflow_name": job["workflow"],
        "head_branch": re.sub(r"^refs/(heads|tags)/", "", job["ref"]),
        "run_url": f"{base}/runs/{job['run_id']}",
        "run_attempt": job["run_attempt"],
        "node_id": node_id("CR", job["id"]),
        "head_sha": run["head_sha"],
        "url": f"{base}/jobs/{job['id']}",
        "html_url": _page(call, repo, job),
        "status": job["status"],
        "conclusion": job["conclusion"],
        "created_at": job["created_at"],
        "started_at": run["started_at"],
        "completed_at": run["completed_at"],
        "name": job["name"],
        "steps": [],
        "check_run_url": f"{call.store.base_url}/api/repos/{call.world.full_name(repo)}"
        f"/check-runs/{run['id']}",
        "labels": ["ubuntu-latest"],
        "runner_id": 1,
        "runner_name": "simulated",
        "runner_group_id": 1,
        "runner_group_name": "GitHub Actions",
    }
    actor = call.store.must("account", job["actor_id"])
    payload = webhooks.about(call.world, repo, actor, action="completed", workflow_job=shape)
    webhooks.emit(call.world, "workflow_job", payload, repo)


def id_token(call: Call) -> Answer:
    """GET of `ACTIONS_ID_TOKEN_REQUEST_URL`, with its bearer token."""
    text = call.params.get("job", "")
    job = call.store.get("job", int(text)) if text.isascii() and text.isdigit() else None
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    if job is None or scheme.lower() != "bearer" or token != job["request_token"]:
        raise ApiError(401, "Unauthorized")
    if job["fork"] or not job["id_token"]:
        raise ApiError(403, "Forbidden")
    if job["status"] == "completed":
        raise ApiError(401, "Unauthorized")
    value = oidc.job_token(call.world, job, call.params.get("audience"))
    return Answer(json={"count": len(value), "value": value})


def discovery(call: Call) -> Answer:
    """GET /oidc/.well-known/openid-configuration."""
    return Answer(json=oidc.discovery(call.world))


def key_set(call: Call) -> Answer:
    """GET /oidc/.well-known/jwks."""
    return Answer(json=oidc.jwks(call.world))


CONTROL_ROUTES = (
    Route(method="POST", template="/workflow_jobs", handler=create_job),
    Route(method="PATCH", template="/workflow_jobs/{id}", handler=change_job),
)
OIDC_ROUTES = (
    Route(method="GET", template="/.well-known/openid-configuration", handler=discovery),
    Route(method="GET", template="/.well-known/jwks", handler=key_set),
    Route(method="GET", template="/token", handler=id_token),
)
