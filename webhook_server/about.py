"""Remember, for the thread or request at work, what it is about: lines and spans carry it.

Whoever takes up a run, a delivery or a request says so once; everything that is logged until it is
done names it, a library's lines as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token

_NOTHING: Mapping[str, str] = {}
_current: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


def subjects() -> Mapping[str, str]:
    """Return what this thread's work is about now: `run`, `delivery`, `request`, `door`, …"""
    return _current.get()


class about:  # noqa: N801 - read as a word of the language: `with about(run=…):`
    """Add to what the work is about until the block ends."""

    __slots__ = ("_before", "_more")
    _before: Token[Mapping[str, str]]

    def __init__(self, **more: str) -> None:
        self._more = more

    def __enter__(self) -> None:
        """Add it."""
        self._before = _current.set({**_current.get(), **self._more})

    def __exit__(self, *_: object) -> None:
        """Take it back."""
        _current.reset(self._before)
