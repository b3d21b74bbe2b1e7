"""The statements by which runs are accepted, claimed and saved, built once.

Building a statement costs SQLAlchemy more than carrying it out costs the database: 0.2 to 0.5 ms of
the interpreter, which the writer's thread and the doors share.
"""

from __future__ import annotations

import functools
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Update,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from webhook_server.runs.model import RunKey
from webhook_server.stores.database import bound_lease_clock, bound_lease_end
from webhook_server.stores.engines import LeaseClock
from webhook_server.stores.run_docs import DOC
from webhook_server.stores.tables import Moment, runs, wishes

_OF_KEY = (
    runs.c.repository_id == bindparam("of_repository"),
    runs.c.commit_sha == bindparam("of_commit"),
    runs.c.spec_path == bindparam("of_path"),
    runs.c.trigger == bindparam("of_trigger"),
)
_OF_RUN = update(runs).where(runs.c.id == bindparam("of_run"))

#: A key's run, as far as accepting it again needs it.
BY_KEY = select(runs.c.id, runs.c.version, DOC).where(*_OF_KEY)
#: The highest number of runs of one name, the highest place in the order of all runs.
HIGHEST = select(
    select(func.max(runs.c.number))
    .where(runs.c.repository_id == bindparam("of_repository"), runs.c.name == bindparam("of_name"))
    .scalar_subquery()
    .label("number"),
    select(func.max(runs.c.seq)).scalar_subquery().label("seq"),
)
INSERT = insert(runs)
#: What people and the Action asked of a run: read in every pass.
WISHES = select(wishes.c.kind, wishes.c.body).where(wishes.c.run_id == bindparam("of_run"))
#: What follows is completed by the columns that its values name.
CHANGE = _OF_RUN
#: A run's own claim.
HELD = _OF_RUN.where(runs.c.lock_token == bindparam("claim_token"))
#: The end of a pass that changes the run: the next look is at once if news came meanwhile.
SAVE = HELD.where(runs.c.version == bindparam("read_version")).values(
    look_again_at=case(
        (runs.c.news == bindparam("known_news"), bindparam("next_look", type_=Moment())),
        else_=bindparam("now", type_=Moment()),
    )
)
#: What asks for the states of some runs.
STATES = select(runs.c.id, runs.c.state).where(runs.c.id.in_(bindparam("of_runs", expanding=True)))
#: The end of a pass that changed nothing, its claim given back or lost to nobody; completed as
#: `CHANGE` is.
PUT_OFF = _OF_RUN.where(
    or_(runs.c.lock_token == bindparam("claim_token"), runs.c.lock_token.is_(None))
).values(lock_token=None, lock_until=None)
FAILED = PUT_OFF.values(failures=runs.c.failures + 1)
UNLOCK = HELD.values(lock_token=None, lock_until=None)


def key_values(key: RunKey) -> dict[str, Any]:
    """Return what `BY_KEY` needs."""
    return {
        "of_repository": key.repository_id,
        "of_commit": key.commit_sha,
        "of_path": key.spec_path,
        "of_trigger": key.trigger,
    }


def unlocked(clock: ColumnElement[Any]) -> ColumnElement[bool]:
    """Say that nobody holds a run's claim."""
    return or_(runs.c.lock_until.is_(None), runs.c.lock_until < clock)


@functools.cache
def due(clock: LeaseClock | None) -> Select[Any]:
    """Return what finds due runs, most overdue first; needs `now` and `most`."""
    columns = (
        runs.c.id,
        runs.c.version,
        runs.c.failures,
        runs.c.news,
        DOC,
        runs.c.look_again_at,
    )
    return (
        select(*columns)
        .where(
            runs.c.look_again_at <= bindparam("now", type_=Moment()),
            unlocked(bound_lease_clock(clock)),
        )
        .order_by(runs.c.look_again_at)
        .limit(bindparam("most", type_=Integer()))
        .with_for_update(skip_locked=True)  # SQLite has one writer and ignores it
    )


@functools.cache
def upcoming(clock: LeaseClock | None) -> Select[datetime]:
    """Return what finds when unclaimed runs are due, soonest first; needs `most`, may need `now`.

    One look tells how many are due and, if not all of them are, when the next one is.
    """
    return (
        select(runs.c.look_again_at)
        .where(runs.c.look_again_at.is_not(None), unlocked(bound_lease_clock(clock)))
        .order_by(runs.c.look_again_at)
        .limit(bindparam("most", type_=Integer()))
    )


@functools.cache
def lend(clock: LeaseClock | None, lease: timedelta) -> Update:
    """Return what lends a run; needs `of_run`, `claim_token` and `lease_values`."""
    until = bound_lease_end(clock, lease)
    return _OF_RUN.values(lock_token=bindparam("claim_token"), lock_until=until)
