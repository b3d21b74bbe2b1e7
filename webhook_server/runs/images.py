"""Say which image that is there already another run of the same commit may use: pure."""

from __future__ import annotations

from collections.abc import Iterable

from webhook_server.runs.model import Run


def reusable(runs: Iterable[Run], commit_sha: str, spec_path: str, *, fork: bool) -> Run | None:
    """Return the first of these runs, of one repository, whose image and environment will do.

    An image is its commit and spec file. One that a fork's run brought is for forks' runs only,
    and the reverse: the one was built without secrets and lies where strangers' images do; the
    other may hold what its build was trusted with.
    """
    for run in runs:
        same = run.key.commit_sha == commit_sha and run.key.spec_path == spec_path
        if same and run.image is not None and run.origin.fork == fork:
            return run
    return None
