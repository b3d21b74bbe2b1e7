"""Remember, for the thread or request at work, what it is about: lines and spans carry it.

Whoever takes up a run, a delivery or a request says so once; everything that is logged until it is
done names it, a library's lines as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_NOTHING: Mapping[str, str] = {}
_current: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


def subjects() -> Mapping[str, str]:
    """Return what this thread's work is about now: `run`, `delivery`, `request`, `door`, …"""
    return _current.get()


@contextmanager
def about(**more: str) -> Iterator[None]:
    """Add to what the work is about until the block ends."""
    before = _current.set({**_current.get(), **more})
    try:
        yield
    finally:
        _current.reset(before)
