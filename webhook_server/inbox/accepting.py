"""Accept the run that an event of GitHub's means, once."""

from __future__ import annotations

import logging

from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.runs.model import RunDraft
from webhook_server.stores.run_accepting import SpecDiffers

log = logging.getLogger(__name__)


def accept(parts: InboxParts, draft: RunDraft) -> str:
    """Make the run unless its key has one; return what to note of it. Safe to repeat.

    Raises: Skip when the run exists with another text of its spec.
    """
    try:
        accepted = parts.runs.accept(draft, arrived=None, token_id=None, now=parts.now())
    except SpecDiffers as error:
        # The commit names one text only, and ours comes from GitHub itself.
        log.exception(
            "spec differs repository=%s commit=%s", draft.repository, draft.key.commit_sha
        )
        raise Skip(str(error)) from error
    parts.bell.ring("runs")
    parts.bell.ring("publications")
    return f"run {accepted.run_id}{'' if accepted.created else ' (known)'}"
