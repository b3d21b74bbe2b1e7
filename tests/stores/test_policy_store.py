"""What is kept of repositories' policies, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from cynthus.repository_policy import Limits, RepositoryPolicy
from tests.builders import NOON, a_draft, a_key, an_attempt
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import SpecFault, State
from webhook_server.runs.observations import ImageArrived, PolicySeen
from webhook_server.stores.database import Database
from webhook_server.stores.policy_store import PolicyKept, PolicyStore
from webhook_server.stores.publication_store import (
    PublicationKind,
    PublicationStore,
    commit_subject,
)
from webhook_server.stores.run_claims import Claim
from webhook_server.stores.run_store import RunStore

SHA = "a" * 40
LONGEST = 2**63 - 1  # of a repository's id
SEEN = PolicySeen(
    policy=RepositoryPolicy(limits=Limits(max_cost_usd=Decimal("5.00"))),
    read_at=NOON,
    faults=(SpecFault(line=2, column=3, text="should be a group"),),
)


@pytest.fixture
def store(db: Database) -> PolicyStore:
    return PolicyStore(db)


def test_what_was_read_is_kept_whole_and_a_newer_reading_replaces_it(store: PolicyStore) -> None:
    assert store.get(7) == PolicyKept()
    store.keep(7, SEEN)
    assert store.get(7) == PolicyKept(seen=SEEN)
    newer = replace(SEEN, read_at=NOON + timedelta(minutes=5), faults=())
    store.keep(7, newer)
    store.keep(7, SEEN)
    assert store.get(7) == PolicyKept(seen=newer)


def test_a_push_to_the_default_branch_makes_the_kept_policy_stale(
    store: PolicyStore, db: Database
) -> None:
    store.keep(7, SEEN)
    store.keep(8, SEEN)
    store.pushed(7, SHA, NOON, touched=False, counts=True)
    assert [kept.current for kept in (store.get(7), store.get(8))] == [None, SEEN]
    shown = PublicationStore(db).get(commit_subject(7, SHA), PublicationKind.POLICY)
    assert shown is None, "nobody knows that the file changed, and it is the one that counts"


@pytest.mark.parametrize("known", [True, False], ids=["read before", "never read"])
def test_a_reading_that_was_under_way_during_the_push_is_not_believed(
    store: PolicyStore, *, known: bool
) -> None:
    if known:
        store.keep(7, SEEN)
    before = store.get(7).pushes
    store.pushed(7, SHA, NOON, touched=True, counts=True)
    under_way = replace(SEEN, read_at=NOON + timedelta(seconds=1))
    store.keep(7, under_way, after=before)
    assert store.get(7) == PolicyKept(seen=under_way, read_after=0, pushes=1)
    assert store.get(7).current is None
    store.keep(7, SEEN, after=store.get(7).pushes)
    assert store.get(7).current == SEEN


@pytest.mark.case("P11")
def test_a_replica_whose_clock_is_ahead_hides_no_push_and_no_newer_reading(
    store: PolicyStore,
) -> None:
    ahead = replace(SEEN, read_at=NOON + timedelta(minutes=5))
    store.keep(7, ahead, after=store.get(7).pushes)
    assert store.get(7).current == ahead
    store.pushed(7, SHA, NOON, touched=True, counts=True)  # by a clock that is right
    assert store.get(7).current is None
    stricter = replace(SEEN, read_at=NOON, faults=())
    store.keep(7, stricter, after=store.get(7).pushes)
    assert store.get(7).current == stricter
    store.keep(7, replace(ahead, read_at=NOON + timedelta(minutes=9)), after=0)  # it had paused
    assert store.get(7).current == stricter, "it was begun before the push, whatever its clock says"


@pytest.mark.parametrize(("touched", "counts"), [(True, True), (True, False), (False, False)])
def test_a_commit_that_may_change_the_file_is_looked_at_once(
    store: PolicyStore, db: Database, *, touched: bool, counts: bool
) -> None:
    for _ in range(2):
        store.pushed(LONGEST, SHA, NOON, touched=touched, counts=counts)
    [item] = PublicationStore(db).claim(9, timedelta(minutes=1), NOON)
    assert (item.subject, item.kind) == (commit_subject(LONGEST, SHA), PublicationKind.POLICY)
    assert item.sent == {"touched": touched}


def test_a_commit_that_comes_to_the_default_branch_is_looked_at_again(
    store: PolicyStore, db: Database
) -> None:
    shown = PublicationStore(db)
    store.pushed(7, SHA, NOON, touched=False, counts=False)
    [item] = shown.claim(9, timedelta(minutes=1), NOON)
    told = replace(item, sent={"touched": False, "annotations": 3}, due_at=None)
    assert shown.save(told)
    store.pushed(7, SHA, NOON, touched=False, counts=False)
    assert shown.next_due() is None, "a repeat tells nothing new"
    store.pushed(7, SHA, NOON, touched=True, counts=True)
    [item] = shown.claim(9, timedelta(minutes=1), NOON)
    assert item.sent == {"touched": True, "annotations": 3}


# ── turns ───────────────────────────────────────────────────────────────────────────────────────


def queued(runs: RunStore, number: int, repository_id: int = 7) -> Claim:
    run_id = f"arun0000000{number}"
    key = a_key(trigger=f"push/{number}", repository_id=repository_id)
    draft = a_draft(id=run_id, key=key)
    arrived = ImageArrived(image="image@sha256:" + "a" * 64, failure=None)
    runs.accept(draft, arrived=arrived, token_id=None, now=NOON)
    claims = runs.claim(limit=9, lease=timedelta(minutes=1), now=NOON)
    return next(claim for claim in claims if claim.run.id == run_id)


def ordered(claim: Claim, limit: int | None) -> Decision:
    attempt = an_attempt(names=(f"cynthus-{claim.run.id}-1",))
    run = replace(claim.run, state=State.PROVISIONING, attempts=(attempt,))
    return Decision(run=run, live_limit=limit, look_again_at=NOON + timedelta(days=1))


def test_only_so_many_runs_of_a_repository_are_ordered_as_its_policy_allows(db: Database) -> None:
    runs = RunStore(db)
    first, second, other = queued(runs, 1), queued(runs, 2), queued(runs, 3, repository_id=8)
    assert runs.save(first, ordered(first, 1), NOON)
    assert not runs.save(second, ordered(second, 1), NOON), "both were decided when none was live"
    assert runs.save(other, ordered(other, 1), NOON), "another repository has turns of its own"
    assert runs.count_live(7, but=second.run.id) == 1
    assert runs.count_live(7, but=first.run.id) == 0
    again = queued(runs, 4)
    assert runs.save(again, ordered(again, 2), NOON)
