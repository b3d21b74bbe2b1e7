"""Say whether this job should start a run at all: pure."""

from __future__ import annotations

from action.inputs import Inputs, Job
from cynthus.spec import PullRequestTrigger, Spec
from cynthus.triggers import push_refusal

# What the server takes too: a build for any other would push, and then be refused its run.
_EVENTS = frozenset({"push", "pull_request", "workflow_dispatch", "schedule"})
# What strangers cause, with this repository's rights.
_TRUSTED_WITH_FOREIGN_CODE = frozenset(
    {
        "discussion",
        "discussion_comment",
        "issue_comment",
        "issues",
        "pull_request_target",
        "workflow_run",
    }
)


def unsafe_event(job: Job, *, dry_run: bool) -> str | None:
    """Return why an event must not build: it hands a stranger's code this repository's rights.

    A dry run pushes nothing and starts nothing, so other events of one's own may try a build.
    https://docs.github.com/actions/reference/security/securely-using-pull_request_target
    """
    wanted = "on: should be push, pull_request, workflow_dispatch or schedule"
    if job.event in _TRUSTED_WITH_FOREIGN_CODE:
        return (
            f"{wanted}, found `{job.event}`, which runs a stranger's code with this repository's "
            f"rights. Write `on: pull_request`."
        )
    if job.event in _EVENTS or dry_run:
        return None
    return f"{wanted}, found `{job.event}`, for which no run is started. Write `on: push`."


def fork(job: Job) -> str | None:
    """Return why a pull request from a fork starts nothing here: GitHub gives it no identity."""
    if job.pull_request is None or not job.pull_request.from_fork:
        return None
    return (
        "This pull request comes from a fork, and GitHub gives such jobs no identity token and no "
        "secrets, so no run starts from here. A maintainer can start one after a look at the code "
        f"by commenting `/cynthus run {job.pull_request.head_sha[:7]}`."
    )


def unwanted(spec: Spec, inputs: Inputs, changed: tuple[str, ...] | None) -> str | None:
    """Return why the spec's triggers do not ask for a run, None when they do."""
    job = inputs.job
    if job.event == "push":
        return _push(spec, job, changed)
    if job.event == "pull_request" and spec.triggers.pull_request is PullRequestTrigger.COMMENT:
        return (
            "triggers/pull_request is `comment`, so pull requests run only on `/cynthus run`. "
            "Write `pull_request: push` to run every push to a pull request."
        )
    return None


def _push(spec: Spec, job: Job, changed: tuple[str, ...] | None) -> str | None:
    if job.branch is None:
        return f"triggers/push: a push of branches; this push is of {job.ref}"
    wanted = spec.triggers.push
    return push_refusal(
        wanted.branches,
        wanted.paths,
        branch=job.branch,
        default_branch=job.default_branch,
        changed=changed,
    )
