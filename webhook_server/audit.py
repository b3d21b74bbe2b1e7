"""Compare what a provider lends with what we know of it, both ways. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from webhook_server.providers.provider import Instance, Provider
from webhook_server.runs.model import Run, State
from webhook_server.stores.fleet_store import Account, FleetStore
from webhook_server.stores.instance_store import InstanceRow, InstanceStore
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.stores.run_store import RunStore

CLOSED_GRACE = timedelta(minutes=1)  # the loop deletes by itself; a sweep is for what it missed
INSTANCE = "instance"


class Standing(StrEnum):
    """What the books say of a thing that exists."""

    WORKING = "working"  #: its attempt is under way, or has only just ended
    WARM = "warm"  #: it waits for its repository's next run, or is being given back after it
    OVER = "over"  #: its attempt has ended
    UNKNOWN = "unknown"  #: it wears our mark and is in no record of ours


@dataclass(frozen=True, kw_only=True)
class Lent:
    """One thing that exists; a disk or an address bears the name of the instance it came with."""

    instance: Instance
    standing: Standing
    run_id: str | None

    @property
    def name(self) -> str:
        """Return the name by which it is deleted."""
        return self.instance.name


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One provider's complete list beside the books."""

    provider: str
    lent: tuple[Lent, ...]
    missing: tuple[InstanceRow, ...]  # instances that we believe in and that it does not list

    def names(self, standing: Standing) -> frozenset[str]:
        """Return the names of what stands so."""
        return frozenset(lent.name for lent in self.lent if lent.standing is standing)

    @property
    def fleet(self) -> int:
        """Return how many names there are."""
        return len({lent.name for lent in self.lent})


@dataclass(frozen=True, kw_only=True)
class Books:
    """Where it is looked up."""

    runs: RunStore
    instances: InstanceStore
    fleet: FleetStore
    providers: Mapping[str, Provider]
    now: Callable[[], datetime]


def compare(books: Books, provider: Provider) -> Listing:
    """Return the provider's list beside the books. Raises: ProviderRefusal, if it is not complete.

    The list is taken first: what is ordered meanwhile is in the books before it exists.
    """
    asked_at = books.now()
    listed = provider.list()
    names = {one.name for one in listed}
    instances = {one.name for one in listed if one.kind == INSTANCE}
    account = books.fleet.account(provider.name, names, instances)
    now = books.now()
    return Listing(
        provider=provider.name,
        lent=tuple(_lent(one, account, now) for one in listed),
        missing=tuple(row for row in account.missing if row.ordered_at <= asked_at),
    )


def _lent(one: Instance, account: Account, now: datetime) -> Lent:
    # A machine that was kept works under another name than its own, or waits under its last one.
    row = account.rows.get(account.used_as.get(one.name, one.name))
    waits = one.name in account.waiting
    standing = Standing.WARM if waits else _standing(row, account.states, now)
    return Lent(instance=one, standing=standing, run_id=row.run_id if row else None)


def _standing(row: InstanceRow | None, states: Mapping[str, State], now: datetime) -> Standing:
    if row is None:
        return Standing.UNKNOWN
    if states.get(row.run_id, State.FINISHED) is State.FINISHED:
        return Standing.OVER
    over = row.closed_at is not None and now - row.closed_at >= CLOSED_GRACE
    return Standing.OVER if over else Standing.WORKING


def usd_per_hour(books: Books, lent: Lent) -> Decimal | None:
    """Return what a thing costs by its provider's word, else by the offer it was ordered from."""
    if lent.instance.usd_per_hour is not None or lent.run_id is None:
        return lent.instance.usd_per_hour
    if lent.instance.kind != INSTANCE:
        return None
    try:
        run = books.runs.get(lent.run_id)
    except RunUnreadable:
        return None
    return _ordered_at_price(run, lent.name) if run else None


def _ordered_at_price(run: Run, name: str) -> Decimal | None:
    ordered = (
        attempt.offer.usd_per_hour
        for attempt in run.attempts
        if name in {member.name for member in attempt.members}
    )
    return next(ordered, None)
