"""Say which runs a newer commit, or their pull request's end, outdates, and what it saves: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from cynthus.money import usd, usd_left
from cynthus.spec import Spec
from webhook_server.runs.commitment import committed_usd
from webhook_server.runs.limits import cost
from webhook_server.runs.model import Run, State
from webhook_server.runs.policy import Policy

_SHOWN_SHA = 7  # as GitHub shortens them


def outdated(runs: Iterable[Run], head_sha: str | None) -> tuple[Run, ...]:
    """Return the live runs of other commits than the head; None: nothing is the head any more.

    Whoever reproduces an older run means its commit, whatever the head is.
    """
    return tuple(
        run
        for run in runs
        if is_live(run) and run.key.commit_sha != head_sha and not _means_its_commit(run, head_sha)
    )


def is_live(run: Run) -> bool:
    """Say whether the end of the run is still open."""
    return run.state is not State.FINISHED and run.outcome is None


def _means_its_commit(run: Run, head_sha: str | None) -> bool:
    return run.origin.reproduces is not None and head_sha is not None


def newer_commit(sha: str) -> str:
    """Say what outdates a run, as its reason continues after "superseded by"."""
    return f"a newer commit {sha[:_SHOWN_SHA]}"


def saving(run: Run, spec: Spec, now: datetime, policy: Policy) -> str:
    """Say how much of what the run might have cost is not spent, when it ends now.

    The most that it might have cost is what its spec allows, or else what is ordered by now.
    """
    spent, limit = cost(run, now), spec.resources.max_cost_usd
    most = committed_usd(run, spec, now, policy) if limit is None else limit
    if most > spent:
        return f"{usd_left(most - spent)} of its {usd_left(most)} were not spent"
    if spent == Decimal(0):
        return "it had cost nothing yet"
    return f"it had cost {usd(spent)}"


def outdated_notice(by: str) -> str:
    """Say of a run that goes on why its result may be of no use any more."""
    return f"outdated by {by}; it ends by itself, as the repository's policy says"
