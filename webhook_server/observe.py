"""Gather what is seen of one run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from cynthus.errors import Transient
from cynthus.frozen import replace
from cynthus.spec import Resources
from webhook_server.providers.provider import (
    Misconfigured,
    NoCapacity,
    NothingFits,
    Provider,
    ProviderRefusal,
    QuotaExceeded,
)
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.model import Run, State
from webhook_server.runs.observations import (
    DataSeen,
    GateSeen,
    Kept,
    Observations,
    PolicySeen,
)
from webhook_server.runs.pinning import wanted
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_store import RunStore


def no_hubs(_run: Run) -> DataSeen:
    """Return what a server says that asks nobody."""
    return DataSeen(fault="data: should be absent, since this server asks no hubs. Remove it.")


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """All that can be looked at."""

    runs: RunStore
    instances: InstanceStore
    cool_downs: CoolDownStore
    publications: PublicationStore
    providers: Mapping[str, Provider]
    default_provider: str
    listening_since: Callable[[], datetime]  # when this server began to hear heartbeats
    #: What the run is paid from; the amount is the most of a month by its repository's policy.
    budgets: Callable[[Run, datetime, Decimal | None], tuple[BudgetSeen, ...]] = (
        lambda _run, _now, _monthly_usd: ()
    )
    waiting: Callable[[int], tuple[Kept, ...]] = lambda _repository_id: ()
    gate: Callable[[Run], GateSeen | None] = lambda _run: None  # what its metrics are judged by
    policy: Callable[[Run], PolicySeen] | None = None  # None: the server has no GitHub App
    data: Callable[[Run], DataSeen] = no_hubs


def observe(eyes: Eyes, run: Run, now: datetime) -> Observations:
    """Return what is seen of the run. Changes nothing; a provider's refusal is an observation."""
    wishes, instances = eyes.runs.seen(run.id, _instances(run))
    seen = Observations(
        instances=instances,
        listening_since=eyes.listening_since(),
        cancel=wishes.cancel,
        image=wishes.image,
        approval=wishes.approval,
        extensions=wishes.extensions,
    )
    if run.state is State.BUILDING:
        seen = replace(seen, offers_refusal=_no_such_provider(eyes, run))
        return seen if seen.cancel is not None else _with_data(eyes, run, seen)
    if run.state is State.QUEUED:
        if _must_wait(run, seen, now):
            return seen
        return _queued(eyes, run, seen, now)
    if run.state is State.COLLECTING and run.spec is not None and run.spec.gate:
        return replace(seen, gate=eyes.gate(run))
    if run.state is State.RELEASING or run.release_url is not None:
        return replace(seen, release=eyes.publications.release_seen(run.id))
    return seen


def observe_instances(eyes: Eyes, run: Run) -> Observations:
    """Return what is seen of the run's instances, and nothing else. Changes nothing.

    Enough to give them back, for a run of which something else cannot be read.
    """
    return Observations(
        instances=eyes.instances.seen(_instances(run)),
        listening_since=eyes.listening_since(),
    )


def _instances(run: Run) -> list[str]:
    return [member.name for member in run.living]


def _with_data(eyes: Eyes, run: Run, seen: Observations) -> Observations:
    """Look up what the run's data is, until that is known."""
    return replace(seen, data=eyes.data(run)) if wanted(run) else seen


def _queued(eyes: Eyes, run: Run, seen: Observations, now: datetime) -> Observations:
    seen = _with_data(eyes, run, seen)
    if seen.data is not None and seen.data.datasets is None:
        return seen  # nothing can be ordered: neither GitHub nor a cloud is asked
    seen = _with_policy(eyes, run, seen)
    if seen.policy_detail or (seen.policy is not None and seen.policy.faults):
        return seen  # nothing can be ordered: no cloud is asked
    return _with_offers(eyes, run, _with_own_means(eyes, run, seen, now), now)


def _with_policy(eyes: Eyes, run: Run, seen: Observations) -> Observations:
    """Look at what the repository lets its runs do, as it stands now."""
    if eyes.policy is None or run.key.repository_id == 0:
        return seen
    try:
        found = eyes.policy(run)
    except Transient as error:
        return replace(seen, policy_detail=str(error))
    live = 0
    if found.policy.limits.live_runs is not None:
        live = eyes.runs.count_live(run.key.repository_id, but=run.id)
    provider = provider_of(run, eyes.default_provider)
    return replace(seen, policy=found, live_runs=live, provider=provider)


def _with_own_means(eyes: Eyes, run: Run, seen: Observations, now: datetime) -> Observations:
    """Look at what the repository has already: money, and instances that wait for it."""
    kept = eyes.waiting(run.key.repository_id)
    monthly = seen.policy.policy.limits.monthly_budget_usd if seen.policy is not None else None
    return replace(seen, budgets=eyes.budgets(run, now, monthly), kept=kept)


def provider_of(run: Run, default: str) -> str:
    """Name the provider that the run's spec asks for."""
    named = run.spec.resources.provider if run.spec else None
    return named or default


def _must_wait(run: Run, seen: Observations, now: datetime) -> bool:
    """Say whether offers would not be looked at: asking a cloud costs a second."""
    return seen.cancel is not None or (run.not_before is not None and now < run.not_before)


def _with_offers(eyes: Eyes, run: Run, seen: Observations, now: datetime) -> Observations:
    provider = eyes.providers.get(provider_of(run, eyes.default_provider))
    if provider is None:
        return replace(seen, offers=(), offers_refusal=_no_such_provider(eyes, run))
    if run.spec is None:
        return seen
    cooling = eyes.cool_downs.current(provider.name, now)
    return with_offers(provider, run.spec.resources, replace(seen, cooling=cooling))


def with_offers(provider: Provider, need: Resources, seen: Observations) -> Observations:
    """Add what the provider could lend now; its refusal is an observation."""
    try:
        return replace(seen, offers=tuple(provider.offers(need)))
    except NoCapacity as refusal:
        return replace(seen, offers=(), offers_detail=str(refusal))
    except (Misconfigured, NothingFits, QuotaExceeded) as refusal:
        return replace(seen, offers=(), offers_refusal=str(refusal))
    except ProviderRefusal as refusal:
        return replace(seen, offers=None, offers_detail=str(refusal))


def _no_such_provider(eyes: Eyes, run: Run) -> str | None:
    return no_such_provider(provider_of(run, eyes.default_provider), eyes.providers)


def no_such_provider(name: str, providers: Collection[str]) -> str | None:
    """Say which providers there are, if that one is not among them."""
    if name in providers:
        return None
    known = ", ".join(sorted(providers))
    return (
        f"resources/provider: should be one that this server has ({known}), found {name}."
        " Change it, or leave it out."
    )
