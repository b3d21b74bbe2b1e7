"""Read runs: the queries that find them, the values that rows become."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from cynthus.errors import Refused, UserError
from webhook_server.runs.model import Outcome, Run, RunKey, State
from webhook_server.stores import run_docs
from webhook_server.stores import run_statements as statements
from webhook_server.stores.run_docs import DOC
from webhook_server.stores.tables import is_set, repositories, runs

#: What a run that cannot be read tells people instead of what it is.
UNREADABLE = "the server cannot read its record of this run; its instances are given back"

_LIST = (
    runs.c.id,
    runs.c.seq,
    runs.c.repository_id,
    runs.c.repository,
    runs.c.commit_sha,
    runs.c.ref,
    runs.c.trigger,
    runs.c.name,
    runs.c.number,
    runs.c.state,
    runs.c.state_since,
    runs.c.outcome,
    runs.c.reason,
    runs.c.cost_usd,
    runs.c.created_at,
    runs.c.finished_at,
)


class RunUnreadable(Refused):
    """The row is damaged, or of a version that this server does not know."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One line of a list of runs."""

    id: str
    seq: int
    repository_id: int
    repository: str
    commit_sha: str
    ref: str
    trigger: str
    name: str
    number: int
    state: State
    state_since: datetime
    outcome: Outcome | None
    reason: str
    cost_usd: Decimal
    created_at: datetime
    finished_at: datetime | None


# ── queries ─────────────────────────────────────────────────────────────────────────────────────


def of_id(run_id: str) -> Select[Any]:
    """Find the run."""
    return select(DOC).where(runs.c.id == run_id)


def of_key(key: RunKey) -> Select[Any]:
    """Find the run that the key means."""
    return select(DOC).where(
        runs.c.repository_id == key.repository_id,
        runs.c.commit_sha == key.commit_sha,
        runs.c.spec_path == key.spec_path,
        runs.c.trigger == key.trigger,
    )


def listed(repository_id: int | None, limit: int, before: int | None) -> Select[Any]:
    """Find a list's lines, newest first; `before` is the last one's `seq` of the page before."""
    query = select(*_LIST).order_by(runs.c.seq.desc()).limit(limit)
    if repository_id is not None:
        query = query.where(runs.c.repository_id == repository_id)
    return query if before is None else query.where(runs.c.seq < before)


def of_pull(repository_id: int, number: int, limit: int) -> Select[Any]:
    """Find a pull request's newest runs, newest first."""
    return (
        select(DOC)
        .where(runs.c.repository_id == repository_id, runs.c.pull_request == number)
        .order_by(runs.c.seq.desc())
        .limit(limit)
    )


def live_of_ref(repository_id: int, ref: str) -> Select[Any]:
    """Find the runs of a branch that have not ended, newest first."""
    return (
        select(DOC)
        .where(
            runs.c.repository_id == repository_id,
            runs.c.ref == ref,
            runs.c.finished_at.is_(None),
        )
        .order_by(runs.c.seq.desc())
    )


def of_name(repository_id: int, name: str, number: int | None, limit: int) -> Select[Any]:
    """Find the newest runs of a spec's name, newest first; `number`: that one only."""
    query = select(DOC).where(runs.c.repository_id == repository_id, runs.c.name == name)
    if number is not None:
        query = query.where(runs.c.number == number)
    return query.order_by(runs.c.number.desc()).limit(limit)


def of_branch(repository_id: int, name: str, branch: str, limit: int) -> Select[Any]:
    """Find the newest succeeded runs of a spec's name on a branch, newest first."""
    return (
        select(DOC)
        .where(
            runs.c.repository_id == repository_id,
            runs.c.name == name,
            runs.c.ref == f"refs/heads/{branch}",
            runs.c.outcome == Outcome.SUCCEEDED.value,
        )
        .order_by(runs.c.number.desc())
        .limit(limit)
    )


def live(repository_id: int) -> Select[Any]:
    """Find a repository's runs that have not ended, newest first."""
    return (
        select(DOC)
        .where(runs.c.repository_id == repository_id, runs.c.finished_at.is_(None))
        .order_by(runs.c.seq.desc())
    )


def of_commit(repository_id: int, commit_sha: str) -> Select[Any]:
    """Find all runs of a commit, newest first."""
    return (
        select(DOC)
        .where(runs.c.repository_id == repository_id, runs.c.commit_sha == commit_sha)
        .order_by(runs.c.seq.desc())
    )


def by_installation() -> Select[Any]:
    """Count the live runs of each installation of the app.

    Only live runs have a deadline, and deadlines have an index: a million finished runs are not
    looked at.
    """
    return (
        select(repositories.c.installation_id, func.count().label("live"))
        .join(runs, runs.c.repository_id == repositories.c.id)
        .where(is_set(runs.c.look_again_at), repositories.c.installation_id.is_not(None))
        .group_by(repositories.c.installation_id)
    )


def states(connection: Connection, run_ids: Collection[str]) -> dict[str, State]:
    """Return the state of each run that exists."""
    found = connection.execute(statements.STATES, {"of_runs": list(run_ids)})
    return {row.id: State(row.state) for row in found}


# ── values ──────────────────────────────────────────────────────────────────────────────────────


def run_of(doc: Any) -> Run:
    """Return the run that a row holds. Raises: RunUnreadable."""
    try:
        return run_docs.read(doc)
    except UserError as error:  # the user has nothing to mend here
        raise RunUnreadable(UNREADABLE) from error


def readable(docs: Iterable[Any]) -> list[Run]:
    """Return the runs that rows hold; those that cannot be read are left out."""
    found = []
    for doc in docs:
        with contextlib.suppress(UserError):
            found.append(run_docs.read(doc))
    return found


def row_of(row: Row[*tuple[Any, ...]]) -> RunRow:
    """Return the line of a list that a row is."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a dict
    values["state"] = State(row.state)
    values["outcome"] = Outcome(row.outcome) if row.outcome else None
    values["cost_usd"] = Decimal(row.cost_usd)
    return RunRow(**values)
