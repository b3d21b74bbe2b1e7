"""Say what may be saved as a checkpoint, whose a run may go on from, what was lost: pure."""

from __future__ import annotations

from cynthus.tree_form import crossing
from cynthus.wire_checkpoint import CHECKPOINT_FILES, Checkpoint, CheckpointFile, leaves_folder
from cynthus.wire_data import CheckpointWork
from webhook_server.runs.model import Outcome, Run
from webhook_server.runs.work import path_fault

#: Runs that repeat a run that repeats a run …: people retry a few times, never this often.
LINEAGE = 8


def checkpoint_work(run: Run, limit_bytes: int, *, restore: bool) -> CheckpointWork | None:
    """Return what the agent shall save and put back; None: the spec names no folder."""
    wanted = run.spec.checkpoint if run.spec else None
    if wanted is None:
        return None
    return CheckpointWork(
        path=wanted.path,
        every_s=wanted.every.total_seconds(),
        limit_bytes=limit_bytes,
        restore=restore,
    )


def repeated(run: Run) -> str | None:
    """Return the id of the run that this one repeats, whose checkpoint it may go on from."""
    return None if run.origin.fork else run.origin.retries or run.origin.reproduces


def may_continue(run: Run, source: Run) -> bool:
    """Say whether `run` may be given what `source` saved.

    Only within a repository, and never a fork's: whoever wrote that commit must neither read what
    ours saved nor slip something into ours. A run that succeeded has nothing left to go on with:
    its repetition begins anew, since otherwise it would show nothing.
    """
    return (
        source.key.repository_id == run.key.repository_id
        and not source.origin.fork
        and not run.origin.fork
        and source.outcome is not Outcome.SUCCEEDED
        and _folder(source) == _folder(run)
    )


def _folder(run: Run) -> str | None:
    return run.spec.checkpoint.path if run.spec and run.spec.checkpoint else None


def lost_steps(told: int | None, kept: int | None) -> int | None:
    """Return how many steps were told after those that a checkpoint holds; None: not known."""
    return None if told is None or kept is None else max(told - kept, 0)


def fault(checkpoint: Checkpoint, limit_bytes: int) -> str | None:
    """Return why this cannot be a checkpoint, or None when it can."""
    files = checkpoint.files
    if not 0 < len(files) <= CHECKPOINT_FILES:
        return f"files: should be 1 to {CHECKPOINT_FILES}, found {len(files)}. Save fewer files."
    if crossing(file.path for file in files) is not None:
        return "files: should name each path once, none below another. Send the folder as it is."
    if sum(file.size_bytes for file in files) > limit_bytes:
        return f"files: should have at most {limit_bytes} bytes together. Save less."
    if checkpoint.step is not None and abs(checkpoint.step) >= 2**63:
        return "step: should have at most 63 bits. Send the step that was told."
    return next(filter(None, map(_file_fault, files)), None)


def _file_fault(file: CheckpointFile) -> str | None:
    found = path_fault(file.path)
    if found is not None:
        return found
    if file.size_bytes < 0:
        return "size_bytes: should not be negative. Send the file's size."
    if file.link is None:
        return None if is_digest(file.sha256, 64) else "sha256: should be 64 hex digits. Send it."
    if file.size_bytes or file.sha256 or leaves_folder(file.path, file.link):
        return "link: should point into the folder, and have no content. Leave it out."
    return None


def is_digest(text: str, digits: int) -> bool:
    """Say whether `text` is a digest of so many hex digits."""
    return len(text) == digits and all(c in "0123456789abcdef" for c in text)
