"""The inbox loop: a stored delivery → its intent → its effect, each at most once by meaning."""

from __future__ import annotations

import json
import logging
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, assert_never

from cynthus.errors import CynthusError, Transient
from webhook_server import metrics
from webhook_server.about import about
from webhook_server.acting import under
from webhook_server.delivery_reader import intent_of, sender_of
from webhook_server.github_api import NotFound
from webhook_server.inbox.authorities import of_delivery
from webhook_server.inbox.buttons import Buttons
from webhook_server.inbox.comments import Comments
from webhook_server.inbox.installations import Installations
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.pressing import Pressing
from webhook_server.inbox.pulls import Pulls
from webhook_server.inbox.pushes import Pushes
from webhook_server.inbox.release_changes import ReleaseChanges
from webhook_server.inbox.superseding import Superseding
from webhook_server.inbox.verbs import Verbs
from webhook_server.intents import (
    Cancel,
    Commented,
    Ignored,
    InstallationChanged,
    Intent,
    Place,
    Pressed,
    PullEnded,
    PullRequest,
    ReleaseChanged,
    RepositoryChanged,
    Rerun,
    StartRun,
)
from webhook_server.metrics import METERS
from webhook_server.stores.delivery_store import Delivery, DeliveryState
from webhook_server.traces import span

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # a delivery costs a handful of requests of at most 15 s
_BATCH = 20
_IDLE_S = 5.0  # the bell rings sooner
_IN_HAND_S = 1.0
# GitHub waits 10 s for the door's answer, people longer for what follows: the answers of a burst go
# first. Of what a delivery costs the server, more than half is its handling (docs/performance.md).
_LATE_S = 2.0
MAX_TRIES = 12  # with the waits below: about five hours, then a person must look
_BACKOFF, _LONGEST_BACKOFF = timedelta(seconds=2), timedelta(hours=1)
# As often as runs.github_pace probes whether an outage is over; and for as long as GitHub itself
# would deliver again what we had not taken.
_LONGEST_OUTAGE_WAIT, _LONGEST_OUTAGE = timedelta(minutes=2), timedelta(days=3)
_NOT_FOUND_TRIES = 3


class Inbox:
    """`step` is the loop's step. Any number of replicas may run it."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts, self._now = parts, parts.now
        self._releases = ReleaseChanges(parts)
        superseding, verbs = Superseding(parts), Verbs(parts)
        self._pushes, self._pulls = Pushes(parts, superseding), Pulls(parts, superseding)
        self._installations = Installations(parts)
        self._comments = Comments(parts, verbs)
        self._buttons, self._pressing = Buttons(parts, verbs), Pressing(parts, verbs)
        self._ending: list[Future[bool]] = []

    def step(self) -> float:
        """Handle all that is due; return the seconds until the next look."""
        store = self._parts.deliveries
        # A look costs a read; only what is due costs a write.
        while (due_at := store.next_due()) is not None:
            wait_s = (due_at - self._now()).total_seconds()
            if wait_s > 0:
                return min(wait_s, _IDLE_S)
            if (head_start := head_start_s(late_s=-wait_s)) > 0:
                self._parts.let_door_go_first(head_start)
            claimed = store.claim(_BATCH, LEASE, self._now())
            if not claimed:  # in other hands: look again when that may have ended
                return _IN_HAND_S
            for item in claimed:
                self._handle(item)
            self._settle()
        return _IDLE_S

    def _handle(self, delivery: Delivery) -> None:
        with about(delivery=delivery.guid), span("delivery", kind=delivery.event):
            self._handle_one(delivery)

    def _handle_one(self, delivery: Delivery) -> None:
        try:
            note = self._carry_out(delivery)
        except Skip as skip:
            self._finish(delivery, DeliveryState.IGNORED, str(skip))
        except Transient as error:
            self._retry(delivery, error, error.retry_at)
        except NotFound as error:
            # GitHub may deliver an event before all of its servers know what it tells of.
            if delivery.tries < _NOT_FOUND_TRIES:
                self._retry(delivery, error, None)
            else:
                self._finish(delivery, DeliveryState.IGNORED, str(error))
        except CynthusError as error:
            self._finish(delivery, DeliveryState.IGNORED, str(error))
        except Exception as error:
            log.exception("delivery failed guid=%s kind=%s", delivery.guid, delivery.event)
            self._retry(delivery, error, None)
        else:
            self._finish(delivery, DeliveryState.DONE, note)

    def _finish(self, delivery: Delivery, state: DeliveryState, note: str) -> None:
        log.info(
            "delivery ended state=%s guid=%s kind=%s note=%s",
            state.value,
            delivery.guid,
            delivery.event,
            note,
        )
        _count(delivery, state, self._now())
        store = self._parts.deliveries
        self._ending.append(store.finish_async(delivery, state, note, self._now()))

    def _settle(self) -> None:
        """Wait until what was finished is stored, lest it is claimed again by the next look."""
        ending, self._ending = self._ending, []
        # The last first: once it is stored all are, and the others' answers are not waited for.
        for stored in reversed(ending):
            stored.result()

    def _retry(self, delivery: Delivery, error: Exception, retry_at: datetime | None) -> None:
        note = str(error) if isinstance(error, CynthusError) else type(error).__name__
        # An outage of GitHub says nothing about the delivery: it does not use up its tries.
        away = isinstance(error, Transient)
        if self._is_hopeless(delivery, away=away):
            log.error(
                "delivery parked guid=%s kind=%s note=%s", delivery.guid, delivery.event, note
            )
            _count(delivery, DeliveryState.PARKED, self._now())
            self._parts.deliveries.finish(delivery, DeliveryState.PARKED, note, self._now())
            return
        longest = _LONGEST_OUTAGE_WAIT if away else _LONGEST_BACKOFF
        wait = min(_BACKOFF * 2 ** min(delivery.tries, 12), longest)
        wait *= self._parts.spread(0.75, 1.25)  # so that many do not come back at once
        due_at = max(retry_at or self._now(), self._now() + wait)
        log.warning(
            "delivery put off guid=%s tries=%s note=%s", delivery.guid, delivery.tries, note
        )
        METERS.add(metrics.DELIVERIES, state="put_off")
        self._parts.deliveries.retry(delivery, due_at, note)

    def _is_hopeless(self, delivery: Delivery, *, away: bool) -> bool:
        if away:
            return self._now() - delivery.received_at > _LONGEST_OUTAGE
        return delivery.tries >= MAX_TRIES

    # ── intents ─────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, delivery: Delivery) -> str:
        payload = _parsed(delivery.body)
        intent = intent_of(delivery.event, payload)
        if isinstance(intent, Ignored):
            raise Skip(intent.reason)
        if isinstance(intent, InstallationChanged):
            return self._installations.installation(intent)
        self._check_allowed(intent.place)
        with under(of_delivery(delivery, sender_of(payload))):
            return self._effect(intent)

    def _check_allowed(self, place: Place) -> None:
        if not self._parts.allowed.permits(place.id, place.owner_id, place.full_name):
            log.warning("repository not allowed id=%s name=%s", place.id, place.full_name)
            raise Skip(f"{place.full_name} is not on CYNTHUS_ALLOWED")

    def _effect(self, intent: Intent) -> str:
        match intent:
            case StartRun():
                return self._pushes.pushed(intent)
            case PullRequest():
                return self._pulls.headed(intent)
            case PullEnded():
                return self._pulls.ended(intent)
            case ReleaseChanged():
                return self._releases.take(intent)
            case RepositoryChanged():
                return self._installations.repository(intent)
            case Commented() | Rerun() | Cancel() | Pressed():
                return self._people(intent)
            case InstallationChanged() | Ignored():
                raise Skip("handled before")
            case _:
                assert_never(intent)

    def _people(self, intent: Commented | Rerun | Cancel | Pressed) -> str:
        """Carry out what a person asks for."""
        match intent:
            case Commented():
                return self._comments.commented(intent)
            case Rerun():
                return self._buttons.rerun(intent)
            case Cancel():
                return self._buttons.cancel(intent)
            case Pressed():
                return self._pressing.pressed(intent)
            case _:
                assert_never(intent)


def _count(delivery: Delivery, state: DeliveryState, now: datetime) -> None:
    METERS.add(metrics.DELIVERIES, state=state.value)
    METERS.observe(metrics.DELIVERY_SECONDS, (now - delivery.received_at).total_seconds())


def head_start_s(late_s: float) -> float:
    """Return for how long a burst at the door may still go before what is due since `late_s`."""
    return max(_LATE_S - late_s, 0.0)


def _parsed(body: bytes) -> Any:
    """Read a signed body; what no reader of JSON takes asks for nothing."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Skip(f"the payload cannot be read: {type(error).__name__}") from error
