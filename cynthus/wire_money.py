"""The messages about money that cross between programs: what a run may cost, what is lent.

As in `cynthus.wire`: JSON made by `cynthus.codec`, USD as decimal text, so that no cent is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class PlanAsk:
    """POST /api/v1/plan: what would a run of this spec get, and cost? Nothing is ordered."""

    spec_path: str
    spec_text: str
    repository_id: int = 0  # whose budgets; 0: no GitHub repository
    repository: str = ""  # owner/name, for people
    minimum_driver: str | None = None  # of the environment: a run's view names it


@dataclass(frozen=True, kw_only=True)
class OfferView:
    """What a provider could lend; with several `nodes` each of them costs `usd_per_hour`."""

    provider: str
    place: str
    machine: str
    gpu_type: str | None
    gpu_count: int
    cpu: int
    memory_bytes: int
    spot: bool
    usd_per_hour: Decimal
    price_source: str  # the price is an estimate by it; "": certain
    quota: str
    expected_usd: Decimal  # all nodes for all of `max_duration`, or `max_cost` if that is less
    most_usd: Decimal  # what budgets reserve: boot, collecting and the instance's own end included
    refusal: str | None  # why it may not be ordered
    waits: str | None  # why it would not be asked for just now
    driver: str = ""  # the NVIDIA driver that it comes with; empty: not known, or no GPU


@dataclass(frozen=True, kw_only=True)
class BudgetView:
    """A month's budget."""

    scope: str  # repository, owner
    limit_usd: Decimal
    booked_usd: Decimal  # spent this month, and what live runs may still come to cost
    left_usd: Decimal
    turns_at: datetime


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """What a run of a spec would get, in the order in which it would be tried."""

    name: str
    provider: str
    nodes: int
    max_duration_s: int  # as far as the server allows it
    max_cost_usd: Decimal | None
    offers: tuple[OfferView, ...]
    budgets: tuple[BudgetView, ...]
    notices: tuple[str, ...]  # what the run would go without
    refusal: str | None  # why it would end at once
    waits: str | None  # why it would have to wait


# ── audit: GET /api/v1/audit ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class LentView:
    """One thing that a provider says exists and wears this server's mark."""

    provider: str
    name: str
    kind: str  # instance, disk, address
    place: str
    fate: str
    detail: str
    standing: str  # working, warm (waits for a run), over (its attempt is), unknown (to us)
    run_id: str | None
    usd_per_hour: Decimal | None  # None: nobody knows


@dataclass(frozen=True, kw_only=True)
class MissingView:
    """An instance that we believe in and that its provider does not list."""

    provider: str
    name: str
    run_id: str
    ordered_at: datetime


@dataclass(frozen=True, kw_only=True)
class UnansweredView:
    """A provider that gave no complete list: nothing is known of what it lends."""

    provider: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """What exists, what we know, and the difference both ways."""

    control_plane: str  # the mark that everything of this server wears
    made_at: datetime
    lent: tuple[LentView, ...]
    missing: tuple[MissingView, ...]
    unanswered: tuple[UnansweredView, ...]
    usd_per_hour: Decimal  # of all that has a price
    unknown_usd_per_hour: Decimal
    unpriced: int  # things whose price nobody knows
    kept: str | None  # why the server does not delete the unknown ones by itself


@dataclass(frozen=True, kw_only=True)
class SweepAsk:
    """POST /api/v1/audit/sweep: delete these unknown things; a person has confirmed how many."""

    names: tuple[str, ...]
    count: int  # as the person typed it


@dataclass(frozen=True, kw_only=True)
class SparedView:
    """What was not deleted, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """What came of it; a deletion takes minutes, so it is told as begun."""

    begun: tuple[str, ...]
    spared: tuple[SparedView, ...]
