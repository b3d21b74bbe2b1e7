"""Write runs as the records that rows hold, and read them back; what was written lately is known.

A pass reads the record that the pass before it wrote. A run never changes, so that equal records
are the same run.
"""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import ColumnElement, Text, cast

from cynthus.codec import decode
from cynthus.errors import UserError
from webhook_server.runs.model import Run
from webhook_server.stores.json_text import JsonText, from_json, to_json
from webhook_server.stores.tables import runs

#: Characters of records that are known: some 500 runs, which take 6 MiB of memory with their texts.
KNOWN = 2_000_000
#: The column, as `read` takes it: either driver would read it as JSON otherwise.
RECORD: ColumnElement[str] = cast(runs.c.doc, Text).label("doc")


def written(run: Run) -> JsonText:
    """Return the run's record, for the column `doc`."""
    text = JsonText(to_json(run))
    _KNOWN.add(text, run)
    return text


def read(record: Any) -> Run:
    """Return the run of a record, as `RECORD` selects it. Raises: UserError, if it is none."""
    run = _KNOWN.get(record)
    if run is None:
        try:
            value = from_json(record)
        except ValueError as error:
            raise UserError("message: should be JSON, found another text.") from error
        run = decode(Run, value)
        _KNOWN.add(record, run)
    return run


class Known:
    """The runs of some records: those that were added last."""

    def __init__(self, most: int = KNOWN) -> None:
        self._most = most
        self._runs: dict[str, Run] = {}  # oldest first
        self._size = 0  # characters
        self._adding = threading.Lock()

    def get(self, record: str) -> Run | None:
        """Return the run of a record that is known."""
        return self._runs.get(record)

    def add(self, record: str, run: Run) -> None:
        """Keep what a record says; as many of the oldest are forgotten as it takes."""
        with self._adding:
            if record in self._runs:
                return
            self._runs[record] = run
            self._size += len(record)
            while self._size > self._most:
                oldest = next(iter(self._runs))
                del self._runs[oldest]
                self._size -= len(oldest)

    def clear(self) -> None:
        """Forget them all."""
        with self._adding:
            self._runs.clear()
            self._size = 0


_KNOWN = Known()
