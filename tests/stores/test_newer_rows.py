"""Rows that a newer server wrote, in a rolling upgrade: an older one leaves them to it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text, update

from tests.builders import a_draft
from tests.stores.conftest import NOON
from webhook_server.runs.model import Outcome, State
from webhook_server.stores import schema
from webhook_server.stores.database import Database
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import runs

LEASE = timedelta(minutes=1)


@pytest.mark.parametrize("is_newer", [True, False])
def test_a_run_that_cannot_be_read_is_left_to_the_newer_server_that_wrote_it(
    db: Database, is_newer: bool
) -> None:
    store = RunStore(db)
    store.accept(a_draft(), arrived=None, token_id=None, now=NOON)
    db.write(lambda c: c.execute(update(runs).values(doc={"state": "levitating"})).rowcount)
    version = "9999" if is_newer else schema.HEAD
    stamp = text("UPDATE alembic_version SET version_num = :version")
    db.write(lambda c: c.execute(stamp, {"version": version}).rowcount)

    assert store.claim(limit=1, lease=LEASE, now=NOON) == []

    [row] = store.list(repository_id=None, limit=1, before=None)
    if is_newer:
        assert (row.state, row.outcome) == (State.BUILDING, None)
        due_at = store.next_due(NOON)
        assert due_at is not None
        assert NOON < due_at <= NOON + timedelta(seconds=10)  # not in a circle, and not for long
    else:
        assert (row.state, row.outcome) == (State.FINISHED, Outcome.INFRASTRUCTURE)
