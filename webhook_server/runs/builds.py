"""Say what a repository's workflows are asked when a run's image is to be built: pure."""

from __future__ import annotations

from collections.abc import Sequence

from cynthus.wire import DISPATCH_TYPE
from webhook_server.runs.images import reusable
from webhook_server.runs.model import Cause, Run, State

EVENT_TYPE = DISPATCH_TYPE


def payload(run: Run) -> dict[str, str | int | bool | None]:
    """Return what the workflow is told: six of the ten properties that GitHub allows.

    https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event
    """
    return {
        "run_id": run.id,
        "commit_sha": run.key.commit_sha,
        "spec_path": run.key.spec_path,
        "trigger": run.key.trigger,
        "pull_request": run.pull_request,
        "fork": run.origin.fork,
    }


def lender(run: Run, others: Sequence[Run]) -> Run | None:
    """Return a run whose image this one may use, since it was asked for: no build is needed."""
    return reusable(others, run.key.commit_sha, run.key.spec_path, fork=run.origin.fork)


def is_behind(run: Run, others: Sequence[Run]) -> bool:
    """Say whether an earlier run waits for the very same image: the runs of a sweep share one."""
    mine = (run.created_at, run.id)
    return any(
        one.state is State.BUILDING and (one.created_at, one.id) < mine
        for one in _of_the_same_build(run, others)
    )


def shared_failure(run: Run, others: Sequence[Run]) -> str | None:
    """Return why the build that this run waited for failed; None: none did since it was made."""
    for one in _of_the_same_build(run, others):
        failed = one.state is State.FINISHED and one.reason.cause is Cause.BUILD
        if failed and one.finished_at is not None and one.finished_at >= run.created_at:
            return f"run {one.id} waited for the same image: {one.reason.text}"
    return None


def _of_the_same_build(run: Run, others: Sequence[Run]) -> Sequence[Run]:
    return [
        one
        for one in others
        if one.origin.wants_build
        and one.id != run.id
        and one.key.commit_sha == run.key.commit_sha
        and one.key.spec_path == run.key.spec_path
        and one.origin.fork == run.origin.fork
    ]


def refused_text(said: str) -> str:
    """Return why no image will come, with what to do; `said` is the refusal as it came."""
    return (
        f"the repository's workflows could not be asked for the image: {said} The App needs the "
        "permission `contents: write` there: let an owner accept it in the installation's settings,"
        " or push the commit to a branch that a workflow builds, and ask again."
    )
