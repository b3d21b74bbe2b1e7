"""Compare every provider's complete list with the store, both ways, so that nothing leaks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from webhook_server.providers.provider import InstanceNotFound, Provider, ProviderRefusal
from webhook_server.runs.model import State
from webhook_server.stores.instance_store import InstanceRow, InstanceStore
from webhook_server.stores.run_store import RunStore

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=2)  # well under the ten minutes in which a leak must end
# Unknown to us this long: a database that was restored may still be filled up by its operator,
# and a replica's newest order may not have reached this one's list.
UNKNOWN_GRACE = timedelta(minutes=5)
CLOSED_GRACE = timedelta(minutes=1)  # the loop deletes by itself; the sweep is for what it missed
MOST_PART = 0.2  # of the fleet at once: more looks like a fault of our own records
MOST_FEW = 3  # as many may always go: a fifth of a small fleet is nothing


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that one sweep needs; `first_seen` is its memory of unknown instances."""

    runs: RunStore
    instances: InstanceStore
    providers: Mapping[str, Provider]
    now: Callable[[], datetime]
    first_seen: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def step(self) -> float:
        """Sweep every provider; return the seconds until the next sweep. Safe to repeat."""
        for name, provider in self.providers.items():
            self.sweep(name, provider)
        return EVERY.total_seconds()

    def sweep(self, name: str, provider: Provider) -> None:
        """Sweep one provider, if it gives its complete list."""
        try:
            listed = {instance.name for instance in provider.list()}
        except ProviderRefusal as refusal:
            log.warning("sweep skipped provider=%s detail=%s", name, refusal)
            return
        rows = self.instances.rows(listed)
        unknown = listed - {row.name for row in rows}
        self._delete_unknown(name, provider, unknown, fleet=len(listed))
        self._delete_over(provider, rows)
        self._wake_missing(name, listed)

    def _delete_unknown(
        self, name: str, provider: Provider, unknown: AbstractSet[str], *, fleet: int
    ) -> None:
        """Delete what wears our mark and is in no record of ours, unless we seem to err."""
        due = self._unknown_for_long(name, unknown)
        if not due:
            return
        why_kept = self._why_kept(len(due), fleet)
        if why_kept:
            log.error("unknown instances kept: %s names=%s", why_kept, ",".join(due))
            return
        for instance in due:
            log.error("unknown instance deleted name=%s provider=%s", instance, name)
            _delete(provider, instance)

    def _unknown_for_long(self, provider: str, unknown: AbstractSet[str]) -> list[str]:
        now = self.now()
        for key in [k for k in self.first_seen if k[0] == provider and k[1] not in unknown]:
            del self.first_seen[key]
        first = {name: self.first_seen.setdefault((provider, name), now) for name in unknown}
        return sorted(name for name, since in first.items() if now - since >= UNKNOWN_GRACE)

    def _why_kept(self, number: int, fleet: int) -> str | None:
        if self.runs.is_empty():
            return "the database is empty, so it may be the wrong one"
        if number > max(MOST_FEW, int(MOST_PART * fleet)):
            return f"{number} of {fleet} is too many at once, so the database may be an old one"
        return None

    def _delete_over(self, provider: Provider, rows: Sequence[InstanceRow]) -> None:
        """Delete what belongs to an attempt that is over."""
        states = self.runs.states([row.run_id for row in rows])
        for row in rows:
            if self._is_over(row, states.get(row.run_id)):
                log.warning("leftover instance deleted run=%s name=%s", row.run_id, row.name)
                self.instances.close(row.name, self.now())
                _delete(provider, row.name)

    def _is_over(self, row: InstanceRow, state: State | None) -> bool:
        if state is None or state is State.FINISHED:
            return True
        return row.closed_at is not None and self.now() - row.closed_at >= CLOSED_GRACE

    def _wake_missing(self, provider: str, listed: AbstractSet[str]) -> None:
        """Wake the runs whose instance is not in the list: the loop asks for it by name."""
        missing = set(self.instances.unfinished(provider)) - listed
        for row in self.instances.rows(missing):
            self.runs.wake(row.run_id, self.now())


def _delete(provider: Provider, name: str) -> None:
    try:
        provider.delete(name)
    except InstanceNotFound:
        return
    except ProviderRefusal as refusal:
        log.warning("deletion refused name=%s detail=%s", name, refusal)
