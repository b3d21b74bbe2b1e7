"""Gather what is seen of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from webhook_server.providers.provider import (
    Misconfigured,
    NoCapacity,
    NothingFits,
    Provider,
    ProviderRefusal,
    QuotaExceeded,
)
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.model import InstanceSeen, Observations, Run, State
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.instance_store import InstanceRow, InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_store import RunStore


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """All that can be looked at."""

    runs: RunStore
    instances: InstanceStore
    cool_downs: CoolDownStore
    publications: PublicationStore
    providers: Mapping[str, Provider]
    default_provider: str
    listening_since: datetime  # when this server began to hear heartbeats
    budgets: Callable[[Run, datetime], tuple[BudgetSeen, ...]] = lambda _run, _now: ()


def observe(eyes: Eyes, run: Run, now: datetime) -> Observations:
    """Return what is seen of the run. Changes nothing; a provider's refusal is an observation."""
    wishes = eyes.runs.wishes(run.id)
    names = [member.name for member in run.living]
    rows = eyes.instances.rows(names) if names else []
    seen = Observations(
        cancel=wishes.cancel,
        image=wishes.image,
        instances={row.name: _instance_seen(row) for row in rows},
        listening_since=eyes.listening_since,
    )
    if run.state is State.BUILDING:
        return replace(seen, offers_refusal=_no_such_provider(eyes, run))
    if run.state is State.QUEUED:
        if _must_wait(run, seen, now):
            return seen
        return _with_offers(eyes, run, replace(seen, budgets=eyes.budgets(run, now)), now)
    if run.state is State.RELEASING:
        return replace(seen, release=eyes.publications.release_seen(run.id))
    return seen


def _instance_seen(row: InstanceRow) -> InstanceSeen:
    return InstanceSeen(
        agent=row.agent,
        provider=row.provider,
        create=row.create,
        closed=row.closed_at is not None,
    )


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
    seen = replace(seen, cooling=eyes.cool_downs.current(provider.name, now))
    try:
        return replace(seen, offers=tuple(provider.offers(run.spec.resources)))
    except NoCapacity as refusal:
        return replace(seen, offers=(), offers_detail=str(refusal))
    except (Misconfigured, NothingFits, QuotaExceeded) as refusal:
        return replace(seen, offers=(), offers_refusal=str(refusal))
    except ProviderRefusal as refusal:
        return replace(seen, offers=None, offers_detail=str(refusal))


def _no_such_provider(eyes: Eyes, run: Run) -> str | None:
    name = provider_of(run, eyes.default_provider)
    if name in eyes.providers:
        return None
    known = ", ".join(sorted(eyes.providers))
    return (
        f"resources/provider: should be one that this server has ({known}), found {name}."
        " Change it, or leave it out."
    )
