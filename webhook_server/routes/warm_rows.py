"""Show which instances wait for their repository's next run, and what their waiting has cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from webhook_server.routes.parts import Parts
from webhook_server.runs.attempts import machine_text
from webhook_server.runs.observations import Kept
from webhook_server.runs.warm import idle_usd
from webhook_server.stores.warm_store import WarmStore


@dataclass(frozen=True, kw_only=True)
class WarmRow:
    """A warm instance as the list of runs shows it."""

    machine: str  # its provider's name of it
    kind: str
    place: str
    spot: bool
    repository: str  # owner/name
    run_id: str  # whose spec said to keep it
    since: datetime
    until: datetime
    ending: bool  # nobody can take it any more; its deletion is not confirmed yet
    usd: Decimal
    usd_per_hour: Decimal


def warm_rows(parts: Parts) -> list[WarmRow]:
    """Return everything that waits or is being given back, the first to end first."""
    now = parts.now()
    waiting = WarmStore(parts.database).unfinished()
    return [_row(parts, one, now) for one in sorted(waiting, key=lambda one: one.until)]


def _row(parts: Parts, one: Kept, now: datetime) -> WarmRow:
    run = parts.runs.get(one.run_id)
    return WarmRow(
        machine=one.machine,
        kind=machine_text(one.offer, nodes=1),
        place=f"{one.offer.provider} · {one.offer.place}",
        spot=one.offer.spot,
        repository=run.repository if run is not None else str(one.repository_id),
        run_id=one.run_id,
        since=one.since,
        until=one.until,
        ending=one.ended_at is not None,
        usd=idle_usd(one, now),
        usd_per_hour=one.offer.usd_per_hour,
    )
