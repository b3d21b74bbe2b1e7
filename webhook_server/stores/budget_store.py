"""Reckon what runs count against the month's budgets, and reserve a run's part of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, func, or_, select

from webhook_server.runs.budget import BudgetLimits, BudgetScope, BudgetSeen, month_began_at
from webhook_server.runs.model import Run
from webhook_server.settings import Settings
from webhook_server.stores.database import Database
from webhook_server.stores.tables import repositories, runs

_MILLIONTHS = 1_000_000
# Any number that no other program uses: replicas reserve in turn.
_BUDGET_LOCK = 0x6379_6E74_6875_7303


def limits_of(settings: Settings) -> BudgetLimits:
    """Return the budgets that this server's settings grant."""
    return BudgetLimits(
        repository_usd=settings.repository_budget_usd, owner_usd=settings.owner_budget_usd
    )


class BudgetStore:
    """Reads what is booked; `run_store.save` reserves."""

    def __init__(self, db: Database, limits: BudgetLimits) -> None:
        self._db = db
        self._limits = limits

    def of_run(self, run: Run, now: datetime) -> tuple[BudgetSeen, ...]:
        """Return the budgets that a run is paid from, without its own part of them."""
        return self._seen(run.key.repository_id, run.id, now)

    def of_repository(self, repository_id: int, now: datetime) -> tuple[BudgetSeen, ...]:
        """Return the budgets that a new run of the repository would be paid from."""
        return self._seen(repository_id, "", now)

    def _seen(self, repository_id: int, but: str, now: datetime) -> tuple[BudgetSeen, ...]:
        limits = tuple(self._limits.by_scope())
        if not limits:
            return ()
        with self._db.read() as connection:
            return tuple(
                BudgetSeen(
                    scope=scope,
                    limit_usd=limit,
                    booked_usd=_booked(connection, _paid_by(scope, repository_id), but, now),
                )
                for scope, limit in limits
            )


def millionths(amount: Decimal) -> int:
    """Return an amount as the column keeps it; the rules round to it already."""
    return int(amount * _MILLIONTHS)


def may_book(
    connection: Connection,
    run: Run,
    commitment_usd: Decimal,
    budgets: tuple[BudgetSeen, ...],
    now: datetime,
) -> bool:
    """Say whether the budgets still allow the commitment, in this transaction and after all others.

    What was seen when the run was decided may be old: another run may have booked meanwhile.
    """
    if not budgets:
        return True
    if connection.dialect.name == "postgresql":  # SQLite has one writer
        connection.execute(select(func.pg_advisory_xact_lock(_BUDGET_LOCK)))
    return all(
        replace(
            budget,
            booked_usd=_booked(
                connection, _paid_by(budget.scope, run.key.repository_id), run.id, now
            ),
        ).allows(commitment_usd)
        for budget in budgets
    )


def _paid_by(scope: BudgetScope, repository_id: int) -> ColumnElement[bool]:
    """Return which runs share the budget; a repository of unknown owner shares with none."""
    itself = runs.c.repository_id == repository_id
    if scope is BudgetScope.REPOSITORY:
        return itself
    owner = select(repositories.c.owner_id).where(repositories.c.id == repository_id)
    siblings = select(repositories.c.id).where(repositories.c.owner_id == owner.scalar_subquery())
    return or_(itself, runs.c.repository_id.in_(siblings))


def _booked(
    connection: Connection, paid_by: ColumnElement[bool], but: str, now: datetime
) -> Decimal:
    """Add up the live runs, and those that ended this month."""
    counts = or_(runs.c.finished_at.is_(None), runs.c.finished_at >= month_began_at(now))
    query = select(func.sum(runs.c.booked_microusd)).where(paid_by, counts, runs.c.id != but)
    return Decimal(int(connection.execute(query).scalar_one() or 0)) / _MILLIONTHS
