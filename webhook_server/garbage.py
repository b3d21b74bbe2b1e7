"""Keep Python's search for garbage from holding up the doors."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Objects made beyond those let go of before the young ones are looked through. Python's own number,
# 700, is some 40 requests of ours; ten times as many cost a few MiB at most.
_YOUNG = 7_000
# Searches of the young, then of the middle ones, before the next older are looked through as well:
# Python's own, https://docs.python.org/3/library/gc.html#gc.set_threshold
_MIDDLE, _OLD = 10, 10


@contextmanager
def imports() -> Iterator[None]:
    """Look for none while modules are imported: a fifth of that time, and all of it stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Leave out of every later search what is there now: call it once the server is built.

    Modules, classes and statements live as long as the program. A search through all objects holds
    every thread, for 0.1 s and more on a busy machine, and most of it went through these.
    https://docs.python.org/3/library/gc.html#gc.freeze Safe to repeat.
    """
    gc.collect()  # else what is garbage now would stay for ever
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
