"""Build the `github` context and the rights of a job from its event.

https://docs.github.com/en/actions/reference/workflows-and-actions/contexts#github-context
"""

from __future__ import annotations

from pathlib import Path

from simulators.actions_feed import Registered
from simulators.actions_ledger import RunEntry
from simulators.actions_values import Value, to_text, truthy

Table = dict[str, Value]
_RIGHTS = (
    "actions", "attestations", "checks", "contents", "deployments", "discussions", "issues",
    "packages", "pages", "pull-requests", "security-events", "statuses",
)  # fmt: skip


def event_context(entry: RunEntry, server: str) -> Table:
    """Say what is known of an event before any job is registered."""
    repository = entry.payload.get("repository") or {}
    owner = repository.get("owner") or {}
    sender = entry.payload.get("sender") or {}
    return {
        "event": entry.payload,
        "event_name": entry.event,
        "sha": entry.sha,
        "ref": entry.ref,
        "ref_name": _ref_name(entry.ref),
        "ref_type": "tag" if entry.ref.startswith("refs/tags/") else "branch",
        "ref_protected": False,
        "head_ref": entry.pull("head", "ref"),
        "base_ref": entry.pull("base", "ref"),
        "repository": f"{entry.owner}/{entry.repo}",
        "repository_id": to_text(repository.get("id")),
        "repository_owner": entry.owner,
        "repository_owner_id": to_text(owner.get("id")),
        "repositoryUrl": f"{server}/{entry.owner}/{entry.repo}.git",
        "repository_visibility": repository.get("visibility") or "public",
        "actor": to_text(sender.get("login")),
        "actor_id": to_text(sender.get("id")),
        "triggering_actor": to_text(sender.get("login")),
        "server_url": server,
        "api_url": f"{server}/api",
        "graphql_url": f"{server}/api/graphql",
        "retention_days": "90",
        "secret_source": "None" if entry.is_fork() else "Actions",
    }


def _ref_name(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/", "refs/pull/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def job_context(entry: RunEntry, workflow_name: str, registered: Registered) -> Table:
    """Say what the registration adds to the `github` context."""
    file = f"{entry.owner}/{entry.repo}/{entry.workflow_path}@{entry.ref}"
    return {
        "token": registered.github_token,
        "run_id": to_text(registered.run_id),
        "run_number": to_text(registered.run_number),
        "run_attempt": to_text(registered.run_attempt),
        "workflow": workflow_name,
        "workflow_ref": file,
        "workflow_sha": entry.sha,
    }


def place_context(work: Path, entry: RunEntry, job_key: str) -> Table:
    """Say where on disk the job finds its things."""
    return {
        "job": job_key,
        "workspace": str(work / entry.repo / entry.repo),
        "event_path": str(work / "_temp" / "_github_workflow" / "event.json"),
    }


def granted(permissions: Value, *, fork: bool) -> dict[str, str] | None:
    """Say which rights the job's token has; None is the repository's default.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#permissions
    """
    if permissions is None:
        return None
    if isinstance(permissions, str):  # read-all or write-all
        level = str(permissions).removesuffix("-all")
        permissions = dict.fromkeys(_RIGHTS, level) | {"id-token": level.replace("read", "none")}
    rights = {name: to_text(level) for name, level in dict(permissions).items()}
    return {name: _fork_level(name, level) for name, level in rights.items()} if fork else rights


def _fork_level(name: str, level: str) -> str:
    if name == "id-token":
        return "none"
    return "read" if level == "write" else level


def dispatch_inputs(on: Table, payload: Table) -> Table | None:
    """Give the `inputs` of a workflow started by hand, typed as they were declared."""
    if "workflow_dispatch" not in on:
        return None
    declared = (on["workflow_dispatch"] or {}).get("inputs") or {}
    given = payload.get("inputs") or {}
    return {
        name: _typed((meaning or {}).get("type"), given.get(name, (meaning or {}).get("default")))
        for name, meaning in declared.items()
    }


def _typed(kind: Value, value: Value) -> Value:
    if kind == "boolean":
        return value == "true" if isinstance(value, str) else truthy(value)
    return to_text(value)
