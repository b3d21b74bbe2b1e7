"""Tell the database's time, which all replicas share, between two looks at it.

Replicas hear heartbeats for each other and judge silence: with clocks that differ by more than the
silence limit, a run would be given up while its agent is heard. Between two looks a clock counts
that nobody sets, so that a jump of the system's time changes nothing.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Select, select

from webhook_server.stores.database import Database, own_clock
from webhook_server.stores.engines import LeaseClock

log = logging.getLogger(__name__)

EVERY_S = 60.0  # a bad quartz is off by 6 ms a minute
AGAIN_S = 5.0  # after a look that failed or took too long
#: A look tells the time to half of what it takes: far below the shortest limit, three heartbeats.
LONGEST_LOOK_S = 4.0
_FIRST_TRIES = 5  # a server under load; then its own clock has to do until the next look
TOLD_S = 5.0  # a clock of this machine that is so wrong is worth a line in the log


@functools.cache
def _now(clock: LeaseClock) -> Select[datetime]:
    return select(clock.now())


class SharedClock:
    """Shows the time; `elapsed_s` is a clock that only ever goes on, such as `time.monotonic`."""

    def __init__(self, own: Callable[[], datetime], elapsed_s: Callable[[], float]) -> None:
        self._own, self._elapsed_s = own, elapsed_s
        self._shown = (own(), elapsed_s())  # one value: threads read it while another sets it

    def __call__(self) -> datetime:
        """Return the shared time, as far as it is known."""
        moment, at_s = self._shown
        return moment + timedelta(seconds=self._elapsed_s() - at_s)

    def begin(self, database: Database) -> None:
        """Look until the time is known, a few times at most. Raises: DatabaseUnavailable."""
        for _ in range(_FIRST_TRIES):
            if self.look(database):
                return

    def look(self, database: Database) -> bool:
        """Take over the database's time; False: it took too long to be of use. Safe to repeat.

        Raises: DatabaseUnavailable.
        """
        asked_s = self._elapsed_s()
        with database.read() as connection:
            clock = own_clock(connection)
            told = self._own() if clock is None else connection.execute(_now(clock)).scalar_one()
            heard_s = self._elapsed_s()
        if heard_s - asked_s > LONGEST_LOOK_S:
            return False
        self._shown = (told, (asked_s + heard_s) / 2)
        wrong_s = (self._own() - self()).total_seconds()
        if abs(wrong_s) > TOLD_S:
            log.warning("own clock differs from that of the database seconds=%s", f"{wrong_s:.1f}")
        return True

    def step(self, database: Database) -> float:
        """Look once; return the seconds until the next look. Raises: DatabaseUnavailable."""
        return EVERY_S if self.look(database) else AGAIN_S
