"""Turn one event into the workflow runs it starts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

from simulators.actions_feed import Event, Feed
from simulators.actions_git import GitError, Mirror
from simulators.actions_ledger import Ledger, RunEntry, slug
from simulators.actions_triggers import Payload, starts
from simulators.actions_workflow import WorkflowError, parse_workflow

_EVENTS = frozenset({"push", "pull_request", "workflow_dispatch", "repository_dispatch"})


def plan(feed: Feed, ledger: Ledger, event: Event, token: str = "") -> list[RunEntry]:
    """Find the workflows an event starts. Raises GitError when the repository cannot be read."""
    if event.event not in _EVENTS or event.payload.get("deleted"):
        return []
    full_name = str(event.payload["repository"]["full_name"])
    mirror = Mirror(ledger.state / "mirrors" / full_name, f"{feed.url}/{full_name}.git", token)
    mirror.update()
    sha, ref = _commit(event, mirror)
    owner, _, repo = full_name.partition("/")
    return [
        RunEntry(
            key=f"{event.seq:08d}-{slug(PurePosixPath(path).name)}",
            seq=event.seq,
            event=event.event,
            payload=event.payload,
            owner=owner,
            repo=repo,
            sha=sha,
            ref=ref,
            workflow_path=path,
        )
        for path in mirror.workflow_paths(sha)
        if _is_started(event, path, mirror, sha)
    ]


def _commit(event: Event, mirror: Mirror) -> tuple[str, str]:
    payload = event.payload
    if event.event == "pull_request":
        return _pull_commit(payload, mirror)
    if event.event == "repository_dispatch":
        # The newest commit of the default branch, whatever the payload speaks of:
        # https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows#repository_dispatch
        ref = f"refs/heads/{payload['branch']}"
        return mirror.resolve(ref), ref
    ref = str(payload["ref"])
    if event.event == "workflow_dispatch":
        ref = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        return mirror.resolve(ref), ref
    sha = str(payload["after"])
    mirror.fetch_commit(sha)
    return mirror.resolve(sha), ref  # an annotated tag is named, its commit is run


def _pull_commit(payload: Payload, mirror: Mirror) -> tuple[str, str]:
    ref = f"refs/pull/{payload['number']}/merge"
    try:
        return mirror.resolve(ref), ref
    except GitError:
        # No merge commit is kept (or the branches conflict): the head stands in for it.
        sha = str(payload["pull_request"]["head"]["sha"])
        mirror.fetch_commit(sha)
        return sha, ref


def _is_started(event: Event, path: str, mirror: Mirror, sha: str) -> bool:
    if event.event == "workflow_dispatch" and event.payload.get("workflow") not in {None, path}:
        return False
    try:
        workflow = parse_workflow(path, mirror.read(sha, path))
        changed = partial(_changed, mirror, event, sha)
        return starts(dict(workflow.on), event.event, event.payload, changed)
    except WorkflowError:
        return event.event == "push"  # a broken file is shown as a failed run of the push


def _changed(mirror: Mirror, event: Event, sha: str) -> Sequence[str]:
    return mirror.changed(event.event, event.payload, sha)
