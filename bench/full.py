"""Fill a server's database with runs, by copying one: a million in a minute, not in an hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from bench.seed import opened, seed
from webhook_server.stores.tables import runs

PATTERN = "r00000000000"  # bench.seed's first run
# One statement of a million rows would hold its log of changes beside the database.
_AT_ONCE = 50_000
# Each is a commit and a run of its own, of a thousand repositories.
_OWN = {
    "seq": "n.i + 1",
    "repository_id": "1 + n.i / 1000",  # one after another: rows that lie together are made faster
    "commit_sha": "printf('%040x', n.i)",
    "number": "n.i + 1",
}
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"  # as SQLAlchemy writes them


def fill(state: Path, *, finished: int, live: int = 0, instances: int = 0) -> tuple[str, ...]:
    """Make a database with so many runs; return the tokens of the first run's agents.

    Live ones wait for an image: nothing is due for an hour. Only SQLite.
    """
    tokens = seed(state, runs=1, instances_of_first=instances)
    now = datetime.now(UTC)
    ended = {"state": "'finished'", "outcome": "'succeeded'", "look_again_at": "NULL"}
    ended["finished_at"] = f"'{now.strftime(_MOMENT)}'"
    later = {"look_again_at": f"'{(now + timedelta(hours=1)).strftime(_MOMENT)}'"}
    with opened(state) as database:
        for prefix, number, first, values in (
            ("f", finished, 1, ended),
            ("l", live, finished + 1, later),
        ):
            for begin in range(first, first + number, _AT_ONCE):
                count = min(_AT_ONCE, first + number - begin)
                given = {"id": f"printf('{prefix}%011d', n.i)", **_OWN, **values}
                database.write(lambda c, b=begin, n=count, g=given: _copy(c, b, n, g))
    return tokens


def _copy(connection: Connection, begin: int, count: int, values: Mapping[str, str]) -> None:
    names = [column.name for column in runs.columns]
    told = ", ".join(values.get(name, f't."{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    connection.execute(
        text(
            f"INSERT INTO runs ({columns})"
            f" WITH RECURSIVE n(i) AS (SELECT {begin} UNION ALL"
            f" SELECT i + 1 FROM n WHERE i + 1 < {begin + count})"
            f" SELECT {told} FROM n, runs t WHERE t.id = '{PATTERN}'"
        )
    )
