"""Runs found as people name them, and what is asked of several at once, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import NOON, a_draft, a_key, a_run, a_spec, an_attempt
from webhook_server.inbox.targets import find_target
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Outcome, State
from webhook_server.stores import warm_store
from webhook_server.stores.database import Database
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore


@pytest.fixture
def store(db: Database) -> RunStore:
    """Two repositories: the first with two runs at a pull request and one of a branch."""
    store = RunStore(db)
    for number, (id_, name, pull, repository_id) in enumerate(
        (
            ("first", "digits", 3, 7),
            ("second", "digits", 3, 7),
            ("branch", "other", None, 7),
            ("foreign", "digits", 3, 8),
        )
    ):
        draft = a_draft(
            id=id_,
            key=a_key(repository_id=repository_id, trigger=f"comment/{number}/0"),
            spec=a_spec(name=name),
            pull_request=pull,
        )
        store.accept(draft, arrived=None, token_id=None, now=NOON)
    return store


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "second"),
        ("first", "first"),
        ("digits", "second"),
        ("digits/1", "first"),
        ("digits#2", "second"),
        ("cynthus/digits/1", "first"),
        ("other", "branch"),  # none at the pull request: the repository's
        ("foreign", None),  # another repository's
        ("digits/9", None),
        ("nothing", None),
        ("../x", None),
        ("\x00", None),
        ("\ud800", None),
    ],
)
def test_a_run_is_found_as_people_name_it_and_never_another_repositorys(
    store: RunStore, text: str | None, found: str | None
) -> None:
    run = find_target(store, 7, 3, text)
    assert (run.id if run else None) == found


def test_the_live_runs_of_a_branch_are_found(store: RunStore) -> None:
    live = {run.id for run in store.live_of_ref(7, "refs/heads/main")}
    assert live == {"first", "second", "branch"}
    [claim] = [
        one
        for one in store.claim(limit=9, lease=timedelta(minutes=1), now=NOON)
        if one.run.id == "branch"
    ]
    ended = replace(claim.run, state=State.FINISHED, outcome=Outcome.SUCCEEDED, finished_at=NOON)
    assert store.save(claim, Decision(run=ended), NOON)
    live = {run.id for run in store.live_of_ref(7, "refs/heads/main")}
    assert live == {"first", "second"}
    assert store.live_of_ref(7, "refs/heads/other") == []


def test_what_runs_keep_is_given_back_at_once_and_nothing_of_others(db: Database) -> None:
    warm = WarmStore(db)
    until = NOON + timedelta(hours=1)
    for id_, repository_id in (("a", 7), ("b", 7), ("c", 8)):
        attempt = an_attempt(names=(f"cynthus-{id_}-1",), kept_until=until, ended_at=NOON)
        run = a_run(id=id_, key=a_key(repository_id=repository_id), attempts=(attempt,))
        db.write(lambda db, run=run, one=attempt: warm_store.keep(db, run, one, NOON))
    assert warm.end_of(7, ["a", "c"], NOON) == 1
    assert warm.end_of(7, ["a", "c"], NOON) == 0
    assert [one.run_id for one in warm.waiting(7)] == ["b"]
    assert [one.run_id for one in warm.waiting(8)] == ["c"]
