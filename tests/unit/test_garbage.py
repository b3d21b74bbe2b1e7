"""What the server stands on is left out of later searches for garbage, and no garbage with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from webhook_server.garbage import imports, settle


class Ring:
    """Refers to itself, so that only a search lets go of it."""

    def __init__(self) -> None:
        self.myself = self


@pytest.fixture
def search_as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("search_as_before")
def test_what_is_there_is_kept_out_of_searches_but_not_what_was_garbage() -> None:
    kept, garbage = Ring(), Ring()
    gone = weakref.ref(garbage)
    del garbage
    settle()
    assert gone() is None
    assert gc.get_freeze_count() > 0
    assert not any(one is kept for one in gc.get_objects())


@pytest.mark.usefixtures("search_as_before")
def test_garbage_of_later_is_still_found() -> None:
    settle()
    later = Ring()
    gone = weakref.ref(later)
    del later
    gc.collect()
    assert gone() is None


def test_while_modules_are_imported_nothing_is_looked_for() -> None:
    with imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), imports():
        raise ImportError("a module that is not there")
    assert gc.isenabled()
