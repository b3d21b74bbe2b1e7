"""Documents of runs: what was written lately is known, and everything else is read."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from cynthus.errors import UserError
from tests.builders import a_run
from webhook_server.stores.run_docs import LATELY, MOST, Known, read, written


def test_a_document_is_read_as_the_run_that_it_was_written_of() -> None:
    run = a_run()
    doc = written(run)
    assert read(str(doc)) is run
    LATELY.keep(0)
    LATELY.keep(MOST)
    anew = read(str(doc))
    assert anew == run
    assert anew is not run
    assert read(str(doc)) is anew


@pytest.mark.parametrize("doc", ["", "{", "null", "5", "[]", '{"id": 5}', "{}"])
def test_what_is_no_run_is_said(doc: str) -> None:
    with pytest.raises(UserError, match="should"):
        read(doc)


def test_only_so_much_is_known_and_the_oldest_is_forgotten() -> None:
    known, run = Known(most=10), a_run()
    for doc in ("aaaa", "bbbb", "aaaa", "cccc"):
        known.add(doc, run)
    assert known.get("aaaa") is None
    assert known.get("bbbb") is known.get("cccc") is run
    known.add("d" * 11, run)  # more than may be known at all
    assert known.get("d" * 11) is known.get("cccc") is None
    known.add("eeee", run)
    assert known.get("eeee") is run


def test_many_threads_know_no_more_than_they_may() -> None:
    known = Known(most=100)
    runs = [replace(a_run(), number=n) for n in range(4)]

    def add(n: int) -> None:
        for k in range(500):
            known.add(f"{n}-{k:05}", runs[n])

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of = {f"{n}-{k:05}": runs[n] for n in range(4) for k in range(500)}
    left = [doc for doc in of if known.get(doc) is not None]
    assert 0 < sum(map(len, left)) <= 100
    assert all(known.get(doc) is of[doc] for doc in left)
