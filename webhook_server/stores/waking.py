"""Make a run due because there is news of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, case, update

from webhook_server.stores.tables import runs


def wake(connection: Connection, run_id: str, now: datetime) -> bool:
    """Make the run due now, also while a pass is under way; False: there is no such run."""
    statement = (
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            news=runs.c.news + 1,
            look_again_at=case(
                (runs.c.look_again_at < now, runs.c.look_again_at),  # keep its place in the queue
                else_=now,
            ),
        )
    )
    return connection.execute(statement).rowcount == 1
