"""Remember, for the thread at work, under whose authority it acts.

A door or a handler says it once; the stores, which write the trail in the transaction of the
effect, ask for it when they are called. Whatever nobody asked for is the server's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from webhook_server.runs.trail import SERVER, Authority

_current: ContextVar[Authority] = ContextVar("authority", default=SERVER)


def authority() -> Authority:
    """Return under whose authority this thread acts now."""
    return _current.get()


@contextmanager
def under(given: Authority) -> Iterator[None]:
    """Act under this authority until the block ends."""
    before = _current.set(given)
    try:
        yield
    finally:
        _current.reset(before)
