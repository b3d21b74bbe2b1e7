"""A connection to PostgreSQL that does not wait for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg

_LOOK_S = 0.1  # psycopg's own pause between looks for a signal


class _Silent(Exception):  # noqa: N818 - reads as what happened
    """Nothing came for too long."""


class LimitedConnection(psycopg.Connection[Any]):
    """Closes itself when nothing of an answer has come in time.

    Every answer is waited for in `wait`:
    https://www.psycopg.org/psycopg3/docs/api/connections.html#psycopg.Connection.wait
    """

    answer_limit_s: float | None = None  # None: as long as it takes

    def wait(self, gen: Any, interval: float = _LOOK_S, timeout: float | None = None) -> Any:
        """Wait for one answer. Raises: OperationalError, when it does not come in time."""
        if self.answer_limit_s is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(_limited(gen, self.answer_limit_s), interval)
        except _Silent as silence:
            # Whatever comes now would be taken for the answer to the next question.
            self.pgconn.finish()
            told = f"PostgreSQL did not answer within {self.answer_limit_s:g} s"
            raise psycopg.OperationalError(told) from silence


def _limited(answer: Generator[Any, Any, Any], limit_s: float) -> Generator[Any, Any, Any]:
    """Pass on what is waited for, as long as something comes. Raises: _Silent."""
    silent_at = time.monotonic() + limit_s
    try:
        wanted = next(answer)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > silent_at:
                raise _Silent
            wanted = answer.send(ready)
    except StopIteration as whole:
        return whole.value
