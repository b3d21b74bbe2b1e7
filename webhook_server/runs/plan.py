"""Say what a run of a spec would get and cost, were it asked for now: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire_money import BudgetView, OfferView, PlanView
from webhook_server.runs import honour, pinning
from webhook_server.runs.budget import BudgetSeen, month_turns_at
from webhook_server.runs.commitment import Purse, committed_with, next_attempt, refusal
from webhook_server.runs.environments import driver_refusal
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import allowed, price
from webhook_server.runs.model import Cause, Grant, Reason, Run, RunKey, State
from webhook_server.runs.observations import Observations
from webhook_server.runs.places import cool_down
from webhook_server.runs.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Question:
    """Whose run it would be, and who would lend to it."""

    spec: Spec
    repository_id: int
    repository: str
    provider: str
    policy: Policy
    minimum_driver: str | None = None  # of the environment, as far as it is known
    grant: Grant = field(default_factory=Grant)


def plan(question: Question, seen: Observations, now: datetime) -> PlanView:
    """Return the plan: the provider's order, but what has just refused comes last."""
    spec, policy = allowed(question.spec, question.policy), question.policy
    run = _imagined(question, now)
    purse = Purse(spec=spec, budgets=seen.budgets, policy=policy)
    ordered = sorted(seen.offers or (), key=lambda offer: _cools(offer, seen) is not None)
    offers = tuple(
        replace(view, refusal=_too_old(question, offer) or view.refusal)
        for offer in ordered
        for view in [_offer(run, offer, purse, seen)]
    )
    return PlanView(
        name=spec.name,
        provider=question.provider,
        nodes=spec.resources.nodes,
        max_duration_s=int(spec.resources.max_duration.total_seconds()),
        max_cost_usd=spec.resources.max_cost_usd,
        offers=offers,
        budgets=tuple(_budget(budget, now) for budget in seen.budgets),
        notices=(*honour.notices(question.spec, policy.powers), *_data(seen)),
        refusal=_refusal(question, seen, offers),
        waits=None if seen.offers_refusal else _waits(seen, offers),
    )


def _imagined(question: Question, now: datetime) -> Run:
    """Return the run as it would stand in the queue."""
    return Run(
        id="plan",
        key=RunKey(
            repository_id=question.repository_id, commit_sha="", spec_path="", trigger="plan"
        ),
        repository=question.repository or "this repository",
        number=0,
        spec=question.spec,
        spec_sha256="",
        state=State.QUEUED,
        state_since=now,
        reason=Reason(cause=Cause.ACCEPTED, text=""),
        created_at=now,
        grant=question.grant,
    )


def _cools(offer: Offer, seen: Observations) -> str | None:
    entry = cool_down(offer, seen.cooling)
    return None if entry is None else f"not asked until {entry.until:%H:%M:%S} UTC: {entry.text}"


def _offer(run: Run, offer: Offer, purse: Purse, seen: Observations) -> OfferView:
    attempt = next_attempt(run, offer, purse, run.created_at)
    why_not = refusal(run, attempt, purse)
    return OfferView(
        provider=offer.provider,
        place=offer.place,
        machine=offer.machine,
        gpu_type=offer.gpu_type,
        gpu_count=offer.gpu_count,
        cpu=offer.cpu,
        memory_bytes=offer.memory_bytes,
        spot=offer.spot,
        usd_per_hour=offer.usd_per_hour,
        price_source=offer.price_source,
        quota=offer.quota,
        driver=offer.driver,
        expected_usd=_expected(offer, purse.spec),
        most_usd=committed_with(run, attempt, purse),
        refusal=why_not.text if why_not else None,
        waits=_cools(offer, seen),
    )


def _too_old(question: Question, offer: Offer) -> str | None:
    why = driver_refusal(offer, question.minimum_driver)
    return None if why is None else f"{offer.place}: {why}"


def _expected(offer: Offer, spec: Spec) -> Decimal:
    need = spec.resources
    whole = price(offer.usd_per_hour * need.nodes, need.max_duration)
    return whole if need.max_cost_usd is None else min(whole, need.max_cost_usd)


def _budget(seen: BudgetSeen, now: datetime) -> BudgetView:
    return BudgetView(
        scope=seen.scope.value,
        limit_usd=seen.limit_usd,
        booked_usd=seen.booked_usd,
        left_usd=seen.left_usd,
        turns_at=month_turns_at(now),
    )


def _refusal(question: Question, seen: Observations, offers: tuple[OfferView, ...]) -> str | None:
    """Say why such a run would end at once, in the words in which it would."""
    refused = honour.refusal(question.spec, question.policy.powers) or _no_data(question, seen)
    refused = refused or seen.offers_refusal
    if refused is not None:
        return refused
    if offers and all(offer.refusal for offer in offers):
        return offers[0].refusal
    return None


def _data(seen: Observations) -> Iterator[str]:
    """Yield what each dataset would be, or why that is not known."""
    if seen.data is not None and seen.data.detail:
        yield f"data is not known now: {seen.data.detail}"
    for one in (seen.data.datasets if seen.data is not None else None) or ():
        yield f"data/{one.name}: {pinning.fact(one)}"


def _no_data(question: Question, seen: Observations) -> str | None:
    if seen.data is None:
        return None
    return seen.data.fault or pinning.disk_refusal(question.spec, seen.data.datasets or ())


def _waits(seen: Observations, offers: tuple[OfferView, ...]) -> str | None:
    if offers:
        cooling = [offer.waits for offer in offers if offer.refusal is None]
        return cooling[0] if cooling and all(cooling) else None
    text = "the provider does not answer" if seen.offers is None else "no instance is free"
    return f"{text}: {seen.offers_detail}" if seen.offers_detail else text
