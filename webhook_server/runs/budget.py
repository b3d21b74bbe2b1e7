"""Say what a month's budget still allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cynthus.frozen import replace
from cynthus.repository_policy import POLICY_PATH


class BudgetScope(StrEnum):
    """Whose runs share a budget."""

    REPOSITORY = "repository"
    OWNER = "owner"  #: all repositories of one owner


#: Where an operator raises each of them.
SETTINGS = {
    BudgetScope.REPOSITORY: "CYNTHUS_REPOSITORY_BUDGET",
    BudgetScope.OWNER: "CYNTHUS_OWNER_BUDGET",
}


@dataclass(frozen=True, kw_only=True)
class BudgetLimits:
    """USD that may be spent in a month; None: no limit."""

    repository_usd: Decimal | None = None
    owner_usd: Decimal | None = None
    by_policy: bool = False  # the repository's own policy is the stricter one

    def under(self, monthly_usd: Decimal | None) -> BudgetLimits:
        """Return the limits with the repository's own policy's among them: the smaller counts."""
        own = self.repository_usd
        if monthly_usd is None or (own is not None and own <= monthly_usd):
            return self
        return replace(self, repository_usd=monthly_usd, by_policy=True)

    def by_scope(self) -> Iterable[tuple[BudgetScope, Decimal]]:
        """Yield the limits that there are."""
        if self.repository_usd is not None:
            yield BudgetScope.REPOSITORY, self.repository_usd
        if self.owner_usd is not None:
            yield BudgetScope.OWNER, self.owner_usd


@dataclass(frozen=True, kw_only=True)
class BudgetSeen:
    """A budget, with what all other runs count against it this month.

    A live run counts with the most that it may come to cost, a finished one with what it did cost.
    """

    scope: BudgetScope
    limit_usd: Decimal
    booked_usd: Decimal
    by_policy: bool = False  # it is the repository's own policy that says so

    @property
    def setting(self) -> str:
        """Name where it can be raised."""
        if self.by_policy:
            return f"`limits/monthly_budget` in {POLICY_PATH}"
        return SETTINGS[self.scope]

    @property
    def left_usd(self) -> Decimal:
        """Return what another run may cost at most."""
        return max(Decimal(0), self.limit_usd - self.booked_usd)

    def allows(self, commitment_usd: Decimal) -> bool:
        """Say whether a run that may cost as much fits; what is free always does."""
        return commitment_usd == 0 or self.booked_usd + commitment_usd <= self.limit_usd


def month_began_at(now: datetime) -> datetime:
    """Return the first moment of the month, UTC: the same for every replica."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_turns_at(now: datetime) -> datetime:
    """Return the first moment of the next month, UTC."""
    return month_began_at(month_began_at(now) + timedelta(days=31))  # no month is longer
