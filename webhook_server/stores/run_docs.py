"""Write runs as the documents that rows hold, and read them back; what was written lately is known.

A pass reads what the pass before it wrote. A run never changes, so that equal documents are the
same run.
"""

from __future__ import annotations

import threading

from sqlalchemy import ColumnElement, Text, cast

from cynthus.codec import decode
from cynthus.errors import UserError
from webhook_server.runs.model import Run
from webhook_server.stores.json_text import JsonText, from_json, to_json
from webhook_server.stores.tables import runs

#: Characters of documents that are known: some 600 runs, which take 7 MiB with what they say.
MOST = 2_000_000
#: The column, as `read` takes it: drivers would read it as JSON otherwise.
DOC: ColumnElement[str] = cast(runs.c.doc, Text).label("doc")


def written(run: Run) -> JsonText:
    """Return the run's document, for the column `doc`."""
    doc = JsonText(to_json(run))
    LATELY.add(str(doc), run)
    return doc


def read(doc: str) -> Run:
    """Return the run of a document, as `DOC` selects it. Raises: UserError, if it is none."""
    run = LATELY.get(doc)
    if run is None:
        try:
            value = from_json(doc)
        except ValueError as error:
            raise UserError("message: should be JSON, found another text.") from error
        run = decode(Run, value)
        LATELY.add(doc, run)
    return run


class Known:
    """The runs of some documents: those that were added last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._runs: dict[str, Run] = {}  # oldest first
        self._size = 0  # characters
        self._adding = threading.Lock()

    def get(self, doc: str) -> Run | None:
        """Return the run of a document that is known."""
        return self._runs.get(doc)

    def add(self, doc: str, run: Run) -> None:
        """Keep what a document says; as many of the oldest are forgotten as it takes."""
        with self._adding:
            if doc in self._runs:
                return
            self._runs[doc] = run
            self._size += len(doc)
            self._forget()

    def keep(self, most: int) -> None:
        """Know at most so many characters from now on; 0: nothing, as a process that starts."""
        with self._adding:
            self._most = most
            self._forget()

    def _forget(self) -> None:
        while self._size > self._most:
            oldest = next(iter(self._runs))
            del self._runs[oldest]
            self._size -= len(oldest)


LATELY = Known()
