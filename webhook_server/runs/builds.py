"""Say what a repository's workflows are asked when a run's image is to be built: pure."""

from __future__ import annotations

from cynthus.wire import DISPATCH_TYPE
from webhook_server.runs.model import Run

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


def refused_text(said: str) -> str:
    """Return why no image will come, with what to do; `said` is the refusal as it came."""
    return (
        f"the repository's workflows could not be asked for the image: {said} The App needs the "
        "permission `contents: write` there: let an owner accept it in the installation's settings,"
        " or push the commit to a branch that a workflow builds, and ask again."
    )
