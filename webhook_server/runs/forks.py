"""What a run of a fork's commit does without: pure.

Somebody with the right to it has read one commit and let it run; who wrote it stays a stranger.
docs/forks.md says what such a run gets, and what remains risky.
"""

from __future__ import annotations

from cynthus.spec import Spec
from webhook_server.runs.model import Run


def secret_names(run: Run) -> tuple[str, ...]:
    """Return the names of the secrets that a run is given: a stranger's commit gets none."""
    if run.spec is None or run.origin.fork:
        return ()
    return run.spec.secrets


def notices(spec: Spec | None) -> tuple[str, ...]:
    """Return what to tell of a fork's run from its beginning on."""
    told = ["It runs a fork's commit: its outputs stay here and become no release."]
    if spec is not None and spec.secrets:
        names = ", ".join(spec.secrets)
        told.insert(0, f"It runs a fork's commit and gets none of its secrets: {names}.")
    return tuple(told)
