"""Build the `github` context and the rights of a job from its event.

https://docs.github.com/en/actions/reference/workflows-and-actions/contexts#github-context
"""

from __future__ import annotations

from pathlib import Path

from simulators.actions_feed import Registered
from simulators.actions_ledger import RunEntry
from simulators.actions_values import Value, to_text, truthy

Table = dict[str, Value]


def is_fork(entry: RunEntry) -> bool:
    """Say whether the event is a pull request from another repository."""
    if entry.event != "pull_request":
        return False
    pull = entry.payload["pull_request"]
    head, base = pull["head"].get("repo") or {}, pull["base"].get("repo") or {}
    return bool(head.get("id") != base.get("id") or not head)


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
        "head_ref": _pull_ref(entry, "head"),
        "base_ref": _pull_ref(entry, "base"),
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
        "secret_source": "None" if is_fork(entry) else "Actions",
    }


def _ref_name(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/", "refs/pull/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def _pull_ref(entry: RunEntry, side: str) -> str:
    pull = entry.payload.get("pull_request")
    return to_text(pull[side]["ref"]) if pull else ""


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


def may_ask_id_token(permissions: Value, *, fork: bool) -> bool:
    """Say whether the job may ask for an OIDC token; never for a fork.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#permissions
    """
    if fork:
        return False
    if isinstance(permissions, dict):
        return permissions.get("id-token") == "write"
    return bool(permissions == "write-all")


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
