"""Count the runs that are not finished, by state, from the index of deadlines alone."""

from __future__ import annotations

from sqlalchemy import func, select

from webhook_server.runs.model import State
from webhook_server.stores.database import Database
from webhook_server.stores.tables import is_set, runs


def open_runs(database: Database) -> dict[State, int]:
    """Return how many unfinished runs stand in each state.

    A run that is not finished always has a time to be looked at again, so a million finished
    ones cost nothing here.
    """
    query = (
        select(runs.c.state, func.count())
        .where(is_set(runs.c.look_again_at), runs.c.state != State.FINISHED.value)
        .group_by(runs.c.state)
    )
    with database.read() as connection:
        return {State(state): count for state, count in connection.execute(query)}
