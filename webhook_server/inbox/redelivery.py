"""The delivery sweep: ask GitHub again for what it could not deliver to us."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cynthus.errors import CynthusError, Transient
from webhook_server.github_api import AppHooks, FailedDelivery
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=5)
# https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks
RETENTION = timedelta(days=3)
OVERLAP = timedelta(hours=1)  # deliveries are listed late, and out of order
_STATE = "redelivery"
_AGAIN_S = 30.0
_TRIES = 3  # each asked-for redelivery can fail as well; then it is a person's turn
_APART = timedelta(minutes=4)
# Each costs the second that GitHub wants between writes: a step stays far below what the probes
# take for a loop that stands still.
_AT_ONCE = 30


class Redelivery:
    """`step` is the loop's step: at start-up, then every five minutes."""

    def __init__(
        self,
        hooks: AppHooks,
        deliveries: DeliveryStore,
        db: Database,
        now: Callable[[], datetime],
    ) -> None:
        self._hooks, self._deliveries, self._db, self._now = hooks, deliveries, db, now
        self._due_at: datetime | None = None

    def step(self) -> float:
        """Look once the time has come; return the seconds until the next look."""
        now = self._now()
        if self._due_at is not None and now < self._due_at:
            return min((self._due_at - now).total_seconds(), 5.0)
        try:
            whole = self._sweep(now)
        except Transient as error:
            self._due_at = max(error.retry_at or now, now + timedelta(seconds=_AGAIN_S))
            log.warning("delivery sweep put off reason=%s", error)
        except CynthusError:
            self._due_at = now + EVERY
            log.exception("delivery sweep refused")
        else:
            self._due_at = now + EVERY if whole else now
            return 5.0 if whole else 0.0
        return 5.0

    def _sweep(self, now: datetime) -> bool:
        """Ask for what is missing; False: there is more, which the next step asks for."""
        done_until, asked = self._memory(now)
        left = _AT_ONCE
        missing, trouble = self._missing(done_until - OVERLAP)
        for failed in missing:
            times, last_at = asked.get(failed.guid, (0, datetime.min.replace(tzinfo=now.tzinfo)))
            if times >= _TRIES or now - last_at < _APART:
                continue
            if left == 0:
                return False
            left -= 1
            self._ask(failed)
            asked[failed.guid] = (times + 1, now)
            # Saved at once: a crash between two must not ask for all of them again.
            self._remember(done_until, asked, now)
        if trouble is not None:  # the pages behind it are read from the same moment next time
            raise trouble
        # An hour of overlap is looked at again by the next sweep, and the one after.
        self._remember(now, asked, now)
        return True

    def _missing(self, since: datetime) -> tuple[list[FailedDelivery], Transient | None]:
        """Return what failed and is not here, with the trouble that ended the reading early."""
        found: dict[str, FailedDelivery] = {}
        trouble: Transient | None = None
        try:
            for failed in self._hooks.failed(since=since):
                found.setdefault(failed.guid, failed)  # the newest try of each comes first
        except Transient as error:
            trouble = error
        known = self._deliveries.known(list(found)) if found else set()
        return [failed for guid, failed in found.items() if guid not in known], trouble

    def _ask(self, failed: FailedDelivery) -> None:
        try:
            self._hooks.redeliver(failed.id)
        except Transient:
            raise
        except CynthusError as error:  # it has left GitHub's log meanwhile
            log.warning("redelivery refused guid=%s reason=%s", failed.guid, error)
        else:
            log.info("redelivery asked guid=%s delivered_at=%s", failed.guid, failed.delivered_at)

    # ── memory ──────────────────────────────────────────────────────────────────────────────────

    def _memory(self, now: datetime) -> tuple[datetime, dict[str, tuple[int, datetime]]]:
        oldest = now - RETENTION
        text = self._db.state(_STATE)
        if text is None:
            return oldest + OVERLAP, {}
        memory = json.loads(text)
        asked = {
            guid: (int(times), datetime.fromisoformat(at))
            for guid, (times, at) in memory["asked"].items()
        }
        return max(datetime.fromisoformat(memory["done_until"]), oldest + OVERLAP), asked

    def _remember(
        self, done_until: datetime, asked: dict[str, tuple[int, datetime]], now: datetime
    ) -> None:
        kept = {
            guid: [times, at.isoformat()]
            for guid, (times, at) in asked.items()
            if now - at < RETENTION
        }
        memory = {"done_until": done_until.isoformat(), "asked": kept}
        self._db.set_state(_STATE, json.dumps(memory))
