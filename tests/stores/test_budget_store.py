"""Budgets in the database: what is booked, by whom, in which month, and never twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.builders import NOON, a_draft, a_key, an_attempt
from tests.stores.test_database import run_together
from webhook_server.runs.budget import BudgetLimits, BudgetScope, BudgetSeen
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.database import Database
from webhook_server.stores.repository_store import Repository, RepositoryStore
from webhook_server.stores.run_claims import Claim
from webhook_server.stores.run_store import RunStore

LIMITS = BudgetLimits(repository_usd=Decimal(10), owner_usd=Decimal(15))
NEXT_MONTH = NOON + timedelta(days=5)


@pytest.fixture
def store(db: Database) -> RunStore:
    return RunStore(db)


@pytest.fixture
def budgets(db: Database) -> BudgetStore:
    repositories = RepositoryStore(db)
    for number, owner_id in ((7, 70), (8, 70), (9, 90)):
        repositories.upsert(
            Repository(
                id=number,
                owner_id=owner_id,
                full_name=f"acme/r{number}",
                default_branch="main",
                installation_id=None,
            ),
            NOON,
        )
    return BudgetStore(db, LIMITS)


def a_claim(store: RunStore, run_id: str, repository_id: int = 7) -> Claim:
    draft = a_draft(id=run_id, key=a_key(repository_id=repository_id, trigger=f"push/{run_id}"))
    store.accept(draft, arrived=None, token_id=None, now=NOON)
    [claim] = store.claim(limit=1, lease=timedelta(minutes=1), now=NOON)
    return claim


def ordered(claim: Claim, usd: str, budgets: tuple[BudgetSeen, ...] = ()) -> Decision:
    attempt = an_attempt(names=(f"cynthus-{claim.run.id}-1",))
    run = replace(claim.run, state=State.PROVISIONING, attempts=(attempt,))
    return Decision(run=run, commitment_usd=Decimal(usd), budgets=budgets, look_again_at=NEXT_MONTH)


def finished(run: Run, cost: str, at: datetime) -> Decision:
    ended = replace(
        run,
        state=State.FINISHED,
        outcome=Outcome.FAILED,
        finished_at=at,
        cost_usd=Decimal(cost),
    )
    return Decision(run=ended, commitment_usd=Decimal(cost))


def booked(budgets: BudgetStore, repository_id: int = 7, now: datetime = NOON) -> dict[Any, Any]:
    return {seen.scope: seen.booked_usd for seen in budgets.of_repository(repository_id, now)}


def test_a_live_run_counts_with_its_commitment_a_finished_one_with_its_cost(
    store: RunStore, budgets: BudgetStore
) -> None:
    claim = a_claim(store, "arun00000001")
    assert store.save(claim, ordered(claim, "4.123457"), NOON)
    assert booked(budgets)[BudgetScope.REPOSITORY] == Decimal("4.123457")
    [again] = store.claim(limit=1, lease=timedelta(minutes=1), now=NEXT_MONTH)
    assert booked(budgets, now=NEXT_MONTH)[BudgetScope.REPOSITORY] == Decimal("4.123457")
    assert store.save(again, finished(again.run, "0.5", NEXT_MONTH), NEXT_MONTH)
    assert booked(budgets, now=NEXT_MONTH)[BudgetScope.REPOSITORY] == Decimal("0.5")


def test_what_ended_last_month_counts_no_longer(store: RunStore, budgets: BudgetStore) -> None:
    claim = a_claim(store, "arun00000001")
    assert store.save(claim, finished(claim.run, "9", NOON), NOON)
    assert booked(budgets)[BudgetScope.REPOSITORY] == 9
    assert booked(budgets, now=NEXT_MONTH)[BudgetScope.REPOSITORY] == 0


def test_an_owners_budget_counts_all_repositories_of_that_owner(
    store: RunStore, budgets: BudgetStore
) -> None:
    for number, repository_id in enumerate((7, 8, 9)):
        claim = a_claim(store, f"arun0000000{number}", repository_id)
        assert store.save(claim, ordered(claim, "2"), NOON)
    assert booked(budgets, 8) == {BudgetScope.REPOSITORY: 2, BudgetScope.OWNER: 4}
    assert booked(budgets, 9) == {BudgetScope.REPOSITORY: 2, BudgetScope.OWNER: 2}


def test_a_repository_of_unknown_owner_shares_its_budget_with_none(
    store: RunStore, budgets: BudgetStore
) -> None:
    claim = a_claim(store, "arun00000001", 0)
    assert store.save(claim, ordered(claim, "2"), NOON)
    assert booked(budgets, 0) == {BudgetScope.REPOSITORY: 2, BudgetScope.OWNER: 2}
    assert booked(budgets, 7) == {BudgetScope.REPOSITORY: 0, BudgetScope.OWNER: 0}


def test_a_run_does_not_see_its_own_part(store: RunStore, budgets: BudgetStore) -> None:
    claim = a_claim(store, "arun00000001")
    assert store.save(claim, ordered(claim, "2"), NOON)
    assert [seen.booked_usd for seen in budgets.of_run(claim.run, NOON)] == [0, 0]


def test_without_limits_nothing_is_read_and_nothing_is_refused(
    db: Database, store: RunStore
) -> None:
    claim = a_claim(store, "arun00000001")
    seen = BudgetStore(db, BudgetLimits()).of_run(claim.run, NOON)
    assert seen == ()
    assert store.save(claim, ordered(claim, "1000000", seen), NOON)


def test_a_save_that_counts_on_booked_money_stores_nothing_and_leaves_the_run_due(
    store: RunStore, budgets: BudgetStore
) -> None:
    late = a_claim(store, "arun00000001")
    seen = budgets.of_run(late.run, NOON)
    early = a_claim(store, "arun00000002")
    assert store.save(early, ordered(early, "6", seen), NOON)
    assert not store.save(late, ordered(late, "6", seen), NOON)
    assert store.get("arun00000001") == late.run
    [again] = store.claim(limit=10, lease=timedelta(minutes=1), now=NOON)
    assert again.run == late.run
    assert [budget.left_usd for budget in budgets.of_run(late.run, NOON)] == [4, 9]
    assert store.save(again, ordered(again, "4", seen), NOON)


def test_runs_that_race_for_the_last_dollars_never_get_more_than_there_are(
    empty_url: str, db: Database, store: RunStore, budgets: BudgetStore
) -> None:
    """Two replicas where the database allows it; SQLite has one server with many threads."""
    other = Database(empty_url, now=lambda: NOON) if "postgres" in empty_url else db
    stores = (store, RunStore(other))
    claims = [a_claim(store, f"arun000000{number:02}", 7 + number % 2) for number in range(12)]
    decisions = [ordered(claim, "3", budgets.of_run(claim.run, NOON)) for claim in claims]
    saved: list[bool] = []

    def save(number: int) -> None:
        saved.append(stores[number % 2].save(claims[number], decisions[number], NOON))

    try:
        run_together([lambda number=number: save(number) for number in range(12)])
    finally:
        if other is not db:
            other.close()
    assert saved.count(True) == 5  # of 15 USD of the owner; at most 3 of each repository's 10
    assert booked(budgets)[BudgetScope.OWNER] == 15
