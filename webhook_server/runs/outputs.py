"""Say which attempt a run's outputs are of: pure."""

from __future__ import annotations

from webhook_server.runs.model import Attempt, Run


def made_by(run: Run) -> Attempt | None:
    """Return the attempt whose outputs the run has, or would have."""
    if not run.outputs_attempt:
        return run.attempt
    return next((one for one in run.attempts if one.number == run.outputs_attempt), None)


def partial_text(run: Run) -> str:
    """Return `partial, attempt 2`; empty when they are whole."""
    attempt = made_by(run)
    return f"partial, attempt {attempt.number}" if attempt and run.outputs_partial else ""
