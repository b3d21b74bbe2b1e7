"""Compare every provider's complete list with the store, both ways, so that nothing leaks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cynthus.errors import Transient
from webhook_server import metrics
from webhook_server.audit import Books, Listing, Standing, compare, usd_per_hour
from webhook_server.metrics import METERS
from webhook_server.providers.provider import Provider, ProviderRefusal
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.run_store import RunStore
from webhook_server.strays import delete, why_kept

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=2)  # well under the ten minutes in which a leak must end
# Unknown to us this long: a database that was restored may still be filled up by its operator,
# and a replica's newest order may not have reached this one's list.
UNKNOWN_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that one sweep needs; `first_seen` is its memory of unknown instances."""

    runs: RunStore
    instances: InstanceStore
    fleet: FleetStore
    providers: Mapping[str, Provider]
    now: Callable[[], datetime]
    first_seen: dict[tuple[str, str], datetime] = field(default_factory=dict)
    #: By provider, of the newest sweep: unknown names, what they cost an hour, names in all.
    counted: dict[str, tuple[int, float, int]] = field(default_factory=dict)

    @property
    def books(self) -> Books:
        """Return where it is looked up."""
        return Books(
            runs=self.runs,
            instances=self.instances,
            fleet=self.fleet,
            providers=self.providers,
            now=self.now,
        )

    def step(self) -> float:
        """Sweep every provider; return the seconds until the next sweep. Safe to repeat."""
        for provider in self.providers.values():
            try:
                self.sweep(provider)
            except Transient as error:
                log.warning("sweep skipped provider=%s detail=%s", provider.name, error)
            except Exception:  # the other providers' instances must not leak for this one's fault
                log.exception("sweep failed provider=%s", provider.name)
        return EVERY.total_seconds()

    def sweep(self, provider: Provider) -> None:
        """Sweep one provider, if it gives its complete list."""
        try:
            listing = compare(self.books, provider)
        except ProviderRefusal as refusal:
            log.warning("sweep skipped provider=%s detail=%s", provider.name, refusal)
            METERS.add(metrics.SWEEPS, provider=provider.name, result="skipped")
            return
        self._count(listing)
        self._delete_unknown(provider, listing)
        self._delete_over(provider, listing)
        self._wake_missing(listing)
        METERS.add(metrics.SWEEPS, provider=provider.name, result="done")

    def _count(self, listing: Listing) -> None:
        unknown = [lent for lent in listing.lent if lent.standing is Standing.UNKNOWN]
        costs = sum(usd_per_hour(self.books, lent) or 0 for lent in unknown)
        names = len(listing.names(Standing.UNKNOWN))
        self.counted[listing.provider] = (names, float(costs), listing.fleet)

    def _delete_unknown(self, provider: Provider, listing: Listing) -> None:
        """Delete what wears our mark and is in no record of ours, unless we seem to err."""
        due = self._unknown_for_long(listing)
        kept = why_kept(self.books, listing) if due else None
        METERS.set(metrics.SWEEP_REFUSED, 1 if kept else 0, provider=provider.name)
        if kept:
            log.error("unknown instances kept reason=%s names=%s", kept, ",".join(due))
            return
        for name in due:
            log.error("unknown instance deleted name=%s provider=%s", name, provider.name)
            METERS.add(metrics.STRAYS_DELETED, provider=provider.name)
            self.instances.note_swept(provider.name, name, self.now())
            self._end(provider, name)

    def _unknown_for_long(self, listing: Listing) -> list[str]:
        now, unknown = self.now(), listing.names(Standing.UNKNOWN)
        for key in [k for k in self.first_seen if k[0] == listing.provider and k[1] not in unknown]:
            del self.first_seen[key]
        for name in sorted(unknown):
            if self.first_seen.setdefault((listing.provider, name), now) == now:
                log.warning("unknown instance seen name=%s provider=%s", name, listing.provider)
        return sorted(
            name
            for name in unknown
            if now - self.first_seen[listing.provider, name] >= UNKNOWN_GRACE
        )

    def _delete_over(self, provider: Provider, listing: Listing) -> None:
        """Delete what belongs to an attempt that is over."""
        over = sorted(listing.names(Standing.OVER))
        METERS.set(metrics.LEFT_OVER, len(over), provider=provider.name)
        for name in over:
            log.warning("leftover instance deleted name=%s provider=%s", name, provider.name)
            self.instances.close(name, self.now())
            self._end(provider, name)

    def _end(self, provider: Provider, name: str) -> None:
        """Begin one deletion; a fault of this instance spares no other."""
        try:
            delete(provider, name)
        except Exception:
            log.exception("sweep failed name=%s provider=%s", name, provider.name)

    def _wake_missing(self, listing: Listing) -> None:
        """Wake the runs whose instance is not in the list: the loop asks for it by name."""
        for row in listing.missing:
            self.runs.wake(row.run_id, self.now())

    def gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield what /metrics tells of the newest sweep."""
        for provider, (unknown, costs, fleet) in sorted(self.counted.items()):
            told = {"provider": provider}
            yield "cynthus_lent_instances", told, fleet
            yield "cynthus_unknown_instances", told, unknown
            yield "cynthus_unknown_usd_per_hour", told, costs
