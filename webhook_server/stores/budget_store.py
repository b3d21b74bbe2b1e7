"""Reckon what runs count against the month's budgets, and reserve a run's part of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, func, or_, select

from cynthus.frozen import replace
from webhook_server import metrics
from webhook_server.metrics import METERS
from webhook_server.runs.budget import BudgetLimits, BudgetScope, BudgetSeen, month_began_at
from webhook_server.runs.limits import MILLIONTHS
from webhook_server.runs.model import Run
from webhook_server.settings import Settings
from webhook_server.stores import warm_store
from webhook_server.stores.database import Database
from webhook_server.stores.tables import kept_instances, repositories, runs

# Any number that no other program uses: replicas reserve in turn.
_BUDGET_LOCK = 0x6379_6E74_6875_7303


def limits_of(settings: Settings) -> BudgetLimits:
    """Return the budgets that this server's settings grant."""
    return BudgetLimits(
        repository_usd=settings.repository_budget_usd, owner_usd=settings.owner_budget_usd
    )


class BudgetStore:
    """Reads what is booked; `RunStore.save` reserves."""

    def __init__(self, db: Database, limits: BudgetLimits) -> None:
        self._db = db
        self._limits = limits

    def of_run(
        self, run: Run, now: datetime, monthly_usd: Decimal | None = None
    ) -> tuple[BudgetSeen, ...]:
        """Return the budgets that a run is paid from, without its own part of them.

        `monthly_usd` is what the repository's own policy allows: the smaller limit counts.
        """
        limits = self._limits.under(monthly_usd)
        return self._seen(limits, run.key.repository_id, run.id, now)

    def of_repository(
        self, repository_id: int, now: datetime, monthly_usd: Decimal | None = None
    ) -> tuple[BudgetSeen, ...]:
        """Return the budgets that a new run of the repository would be paid from. As `of_run`."""
        return self._seen(self._limits.under(monthly_usd), repository_id, "", now)

    def _seen(
        self, limits: BudgetLimits, repository_id: int, but: str, now: datetime
    ) -> tuple[BudgetSeen, ...]:
        scopes = tuple(limits.by_scope())
        if not scopes:
            return ()
        with self._db.read() as connection:
            seen = tuple(
                BudgetSeen(
                    scope=scope,
                    limit_usd=limit,
                    booked_usd=_booked(connection, scope, repository_id, but, now),
                    by_policy=limits.by_policy and scope is BudgetScope.REPOSITORY,
                )
                for scope, limit in scopes
            )
        for one in seen:
            _note(one, now)
        return seen


@dataclass
class _Fullest:
    """The fullest budget of a scope that was looked at within the last hour or so."""

    ratio: float
    at: datetime


_FRESH = timedelta(hours=1)
_fullest: dict[BudgetScope, _Fullest] = {}  # of this process; a lost update is one look's


def _note(seen: BudgetSeen, now: datetime) -> None:
    ratio = float(seen.booked_usd / seen.limit_usd) if seen.limit_usd else 1.0
    known = _fullest.get(seen.scope)
    if known is None or ratio >= known.ratio or now - known.at > _FRESH:
        _fullest[seen.scope] = _Fullest(ratio, now)
        METERS.set(metrics.BUDGET_USED, ratio, scope=seen.scope.value)


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
            booked_usd=_booked(connection, budget.scope, run.key.repository_id, run.id, now),
        ).allows(commitment_usd)
        for budget in budgets
    )


def _sharing(
    column: ColumnElement[int], scope: BudgetScope, repository_id: int
) -> ColumnElement[bool]:
    """Return which rows share the budget; a repository of unknown owner shares with none."""
    itself = column == repository_id
    if scope is BudgetScope.REPOSITORY:
        return itself
    owner = select(repositories.c.owner_id).where(repositories.c.id == repository_id)
    siblings = select(repositories.c.id).where(repositories.c.owner_id == owner.scalar_subquery())
    return or_(itself, column.in_(siblings))


def _booked(
    connection: Connection, scope: BudgetScope, repository_id: int, but: str, now: datetime
) -> Decimal:
    """Add up the live runs, those that ended this month, and what waits between runs."""
    began_at = month_began_at(now)
    counts = or_(runs.c.finished_at.is_(None), runs.c.finished_at >= began_at)
    of_runs = select(func.sum(runs.c.booked_microusd)).where(
        _sharing(runs.c.repository_id, scope, repository_id), counts, runs.c.id != but
    )
    of_kept = select(func.sum(kept_instances.c.booked_microusd)).where(
        _sharing(kept_instances.c.repository_id, scope, repository_id),
        warm_store.counts(began_at),
    )
    sums = (connection.execute(query).scalar_one() or 0 for query in (of_runs, of_kept))
    return Decimal(sum(int(found) for found in sums)) / MILLIONTHS
