"""Make a run due because there is news of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, case, update

from webhook_server.stores.tables import Moment, runs


def wake(connection: Connection, run_id: str, now: datetime) -> bool:
    """Make the run due now, also while a pass is under way; False: there is no such run."""
    return connection.execute(_WAKE, {"of_run": run_id, "now": now}).rowcount == 1


def wake_where(connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
    """Make all these runs due now, in one statement; return how many there are."""
    return connection.execute(update(runs).where(which).values(_WOKEN), {"now": now}).rowcount


_NOW = bindparam("now", type_=Moment())
_WOKEN = {
    runs.c.news: runs.c.news + 1,
    runs.c.look_again_at: case(
        (runs.c.look_again_at < _NOW, runs.c.look_again_at),  # keep its place in the queue
        else_=_NOW,
    ),
}
# Built once: building it costs more than carrying it out.
_WAKE = update(runs).where(runs.c.id == bindparam("of_run")).values(_WOKEN)
