"""Say which image a new run may use again: pure."""

from __future__ import annotations

from collections.abc import Iterable

from webhook_server.runs.model import Run


def reusable(runs: Iterable[Run], commit_sha: str, spec_path: str, *, fork: bool) -> Run | None:
    """Return a run whose image is the one of this commit and spec; None: one must be made.

    Overrides never reach an image, so the commit and the file's path decide. What a fork's commit
    was made into is for the fork alone, and a fork gets nothing that was made with more trust.
    """
    for run in runs:
        same = (run.key.commit_sha, run.key.spec_path) == (commit_sha, spec_path)
        if same and run.image is not None and run.origin.fork is fork:
            return run
    return None
