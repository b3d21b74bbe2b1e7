"""Say whether this job should start a run at all: pure."""

from __future__ import annotations

from action.asked import EVENT
from action.inputs import Inputs, Job
from cynthus.spec import PullRequestTrigger, Spec
from cynthus.triggers import push_refusal
from cynthus.wire import DISPATCH_TYPE

# What the server takes too: a build for any other would push, and then be refused its run.
_EVENTS = frozenset({"push", "pull_request", "workflow_dispatch", "schedule"})
_DEFAULT_SPEC = "cynthus.yaml"
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
    if job.event in _EVENTS or job.asked or dry_run:
        return None
    if job.event == EVENT:
        return (
            f"on: should be a dispatch of the type `{DISPATCH_TYPE}`, which the server sends, "
            f"found another. Write `on: repository_dispatch: types: [{DISPATCH_TYPE}]`."
        )
    return f"{wanted}, found `{job.event}`, for which no run is started. Write `on: push`."


def fork(job: Job) -> str | None:
    """Return why a pull request from a fork starts nothing here: GitHub gives it no identity."""
    if job.pull_request is None or not job.pull_request.from_fork:
        return None
    return (
        "This pull request comes from a fork, and GitHub gives such jobs no identity token and no "
        "secrets, so no run starts from here. Somebody with write access can let this commit run, "
        f"after a look at it, by commenting `/cynthus approve {job.pull_request.head_sha[:7]}`."
    )


def another_spec(inputs: Inputs) -> str | None:
    """Return why a build that was asked for is not this step's: several steps see each dispatch.

    A step builds the spec that it names. One that names none builds what lies beside
    `cynthus.yaml` too: there the source is the same folder.
    """
    asked = inputs.job.asked
    if asked is None or asked.spec_path == inputs.spec_shown:
        return None
    if inputs.spec_shown == _DEFAULT_SPEC and "/" not in asked.spec_path:
        return None
    return (
        f"The server asks for {asked.spec_path}, and this step builds {inputs.spec_shown}: another "
        f"one must name it with `spec`, or with `working-directory` for a folder of its own."
    )


def other_commit(job: Job, head: str | None) -> str | None:
    """Return what is wrong when the checkout is not the commit that was asked for."""
    if job.asked is None or head == job.asked.commit_sha:
        return None
    return (
        f"actions/checkout: should check out {job.asked.commit_sha}, which the server asked for, "
        f"found {head or 'no commit'}. Write "
        f"`ref: ${{{{ github.event.client_payload.commit_sha || github.sha }}}}` below its `with`."
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
