"""The end of thousands of runs is asked for in few statements, of exactly those that are meant."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import event

from tests.builders import NOON, a_draft
from webhook_server.acting import under
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Outcome, State
from webhook_server.runs.observations import CancelWish
from webhook_server.runs.trail import Actor, ActorKind, Authority, Means, Proof
from webhook_server.stores.database import Database
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.trail_store import TrailStore, Wanted


def accepted(store: RunStore, number: int, repository_id: int) -> str:
    draft = a_draft()
    key = replace(draft.key, repository_id=repository_id, commit_sha=f"{number:040x}")
    draft = replace(draft, id=f"r{number:011d}", key=key)
    return store.accept(draft, arrived=None, token_id=None, now=NOON).run_id


def finish(store: RunStore, run_id: str) -> None:
    (claim,) = (
        one
        for one in store.claim(limit=100, lease=timedelta(minutes=1), now=NOON)
        if one.run.id == run_id or store.release(one)
    )
    ended = replace(claim.run, state=State.FINISHED, outcome=Outcome.SUCCEEDED, finished_at=NOON)
    decision = Decision(run=ended, commands=(), look_again_at=None)
    assert store.save(claim, decision, NOON)


def test_all_live_runs_are_asked_to_end_and_become_due(db: Database) -> None:
    store, later = RunStore(db), NOON + timedelta(minutes=5)
    ids = [accepted(store, number, 1 + number % 3) for number in range(9)]
    finish(store, ids[4])
    assert store.cancel_all("ada", later) == 8
    for run_id in ids[:4] + ids[5:]:
        assert store.wishes(run_id).cancel == CancelWish(by="ada", at=later)
    assert store.wishes(ids[4]).cancel is None
    claims = store.claim(limit=100, lease=timedelta(minutes=1), now=later)
    assert {claim.run.id for claim in claims} == set(ids) - {ids[4]}


def test_of_one_repository_only_its_runs_are_asked_to_end(db: Database) -> None:
    store = RunStore(db)
    mine, other = accepted(store, 1, 7), accepted(store, 2, 8)
    assert store.cancel_all("ada", NOON, repository_id=7) == 1
    assert store.wishes(mine).cancel is not None
    assert store.wishes(other).cancel is None


def test_the_first_wish_stays(db: Database) -> None:
    store = RunStore(db)
    run_id = accepted(store, 1, 7)
    store.cancel(run_id, "ada", NOON)
    assert store.cancel_all("bob", NOON + timedelta(seconds=1)) == 1
    assert store.wishes(run_id).cancel == CancelWish(by="ada", at=NOON)


def test_nothing_to_end_is_no_fault(db: Database) -> None:
    assert RunStore(db).cancel_all("ada", NOON) == 0


def test_a_hundred_runs_take_as_many_statements_as_one(db: Database) -> None:
    store = RunStore(db)
    told: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT INTO wishes", "INSERT INTO trail", "UPDATE runs")):
            told.append(statement)

    for number in range(100):
        accepted(store, number, 1)
    for engine in db._engines:
        event.listen(engine, "before_cursor_execute", note)
    assert store.cancel_all("ada", NOON) == 100
    assert len(told) == 3


def test_the_trail_says_of_each_run_what_it_says_of_one_alone(db: Database) -> None:
    store, trail = RunStore(db), TrailStore(db)
    alone, before, *others = (accepted(store, number, 1 + number) for number in range(5))
    operator = Actor(kind=ActorKind.OPERATOR, name="the operator")
    acting = Authority(actor=operator, source="a door", proof=Proof(means=Means.OPERATOR, ref="x"))
    with under(acting):
        store.cancel(alone, "ada", NOON)
    store.cancel(before, "bob", NOON)
    with under(acting):
        assert store.cancel_all("ada", NOON) == 5
        assert store.cancel_all("ada", NOON) == 5  # repeated: nobody asked for anything new

    kept = trail.newest(Wanted(verb="cancel"), limit=100)
    of_run = {row.deed.run_id: row for row in kept}
    assert len(kept) == len(of_run) == 5
    assert of_run[before].authority.actor.kind is ActorKind.SERVER
    pattern = of_run[alone]
    for number, run_id in enumerate(others, start=3):
        row = of_run[run_id]
        assert row.authority == acting
        assert row.deed == replace(pattern.deed, run_id=run_id, repository_id=number)
