"""What is kept of pull requests, on both databases."""

from __future__ import annotations

from dataclasses import replace

from tests.builders import NOON
from webhook_server.runs.pull import Pull
from webhook_server.stores.database import Database
from webhook_server.stores.pull_store import PullStore


def test_open_pull_requests_are_told_newest_first_up_to_a_limit(db: Database) -> None:
    store = PullStore(db)
    for number in range(1, 7):
        new = Pull(repository_id=7, number=number, repository="octo/digits")
        store.change(new, lambda pull: replace(pull, open=pull.number != 5), NOON)
    store.change(Pull(repository_id=8, number=9, repository="octo/else"), lambda pull: pull, NOON)
    assert [pull.number for pull in store.open_of(7, 3)] == [6, 4, 3]
    assert store.open_of(9, 3) == []
