"""Make the run that a draft means, or tell the one that is there what the draft knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, update

from cynthus.errors import CynthusError
from cynthus.frozen import replace
from cynthus.spec import spec_digest
from webhook_server.runs import forks
from webhook_server.runs.model import Cause, Reason, Run, RunDraft, State
from webhook_server.stores import run_docs
from webhook_server.stores import run_statements as statements
from webhook_server.stores.run_changes import columns, record
from webhook_server.stores.run_turns import take_turn
from webhook_server.stores.tables import runs


class TokenReused(CynthusError):  # noqa: N818 - reads as what happened
    """The job's token was used before: ask GitHub for another one."""


class SpecDiffers(CynthusError):  # noqa: N818 - reads as what happened
    """The run exists with another text of its spec file."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The run that a request or an event means."""

    run_id: str
    created: bool  # False: it existed already


def upsert(connection: Connection, draft: RunDraft, now: datetime) -> Accepted:
    """Make the draft's run unless its key has one, which learns what it did not know.

    Safe to repeat. Raises: SpecDiffers.
    """
    take_turn(connection)
    row = connection.execute(statements.BY_KEY, statements.key_values(draft.key)).one_or_none()
    if row is None:
        _insert(connection, draft, now)
        return Accepted(run_id=draft.id, created=True)
    _merge(connection, row, draft)
    return Accepted(run_id=row.id, created=False)


def _insert(connection: Connection, draft: RunDraft, now: datetime) -> None:
    name = draft.spec.name if draft.spec else ""
    alike = {"of_repository": draft.key.repository_id, "of_name": name}
    highest = connection.execute(statements.HIGHEST, alike).one()
    run = _new_run(draft, (highest.number or 0) + 1, now)
    values = {
        "id": run.id,
        "seq": (highest.seq or 0) + 1,
        "repository_id": run.key.repository_id,
        "commit_sha": run.key.commit_sha,
        "spec_path": run.key.spec_path,
        "trigger": run.key.trigger,
        "name": name,
        "number": run.number,
        "created_at": now,
        "version": 1,
        "look_again_at": now,
        "spec_text": draft.spec_text,
        **columns(run),
    }
    connection.execute(statements.INSERT, values)
    record(connection, None, run, now)


def _new_run(draft: RunDraft, number: int, now: datetime) -> Run:
    return Run(
        id=draft.id,
        key=draft.key,
        repository=draft.repository,
        number=number,
        spec=draft.spec,
        spec_sha256=spec_digest(draft.spec_text.encode()),
        spec_faults=draft.spec_faults,
        ref=draft.ref,
        event=draft.event,
        default_branch=draft.default_branch,
        pull_request=draft.pull_request,
        workflow_run_url=draft.workflow_run_url,
        state=State.BUILDING,
        state_since=now,
        reason=Reason(cause=Cause.ACCEPTED, text="waiting for the image"),
        created_at=now,
        wants_release=draft.wants_release and not draft.origin.fork,
        notices=forks.notices(draft.spec) if draft.origin.fork else (),
        origin=draft.origin,
        approval=draft.approval,
        datasets=draft.datasets,
    )


def _merge(connection: Connection, row: Row[*tuple[Any, ...]], draft: RunDraft) -> None:
    """Add what the webhook or the Action did not know; what is known stays."""
    run = run_docs.read(row.doc)
    if run.spec_sha256 != spec_digest(draft.spec_text.encode()):
        raise SpecDiffers(
            f"{draft.key.spec_path}: should be the text that run {run.id} was made from,"
            " found another. Submit the file as it is in that commit."
        )
    # What was asked for knows where: a job that brings its image has no say in that.
    is_told = run.pull_request is not None or run.origin.wants_build
    merged = replace(
        run,
        ref=run.ref or draft.ref,
        event=run.event or draft.event,
        default_branch=run.default_branch or draft.default_branch,
        pull_request=run.pull_request if is_told else draft.pull_request,
        workflow_run_url=run.workflow_run_url or draft.workflow_run_url,
        # Of a fork's commit nothing is released, whatever a later job says of it.
        wants_release=(run.wants_release or draft.wants_release) and not run.origin.fork,
    )
    if merged == run or run.state is State.FINISHED:
        return
    # The new version makes a pass that is under way lose its race: it will look again.
    connection.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(
            doc=run_docs.written(merged),
            ref=merged.ref,
            pull_request=merged.pull_request,
            version=row.version + 1,
        )
    )
