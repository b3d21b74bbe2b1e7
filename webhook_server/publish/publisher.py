"""The publishing loop: claim what is due, and let its kind be shown."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta

from cynthus.frozen import replace
from webhook_server import metrics
from webhook_server.metrics import METERS
from webhook_server.publish.builds import Builds
from webhook_server.publish.check_runs import CheckRuns
from webhook_server.publish.comments import Comments
from webhook_server.publish.failures import Failures
from webhook_server.publish.line import Line
from webhook_server.publish.parts import Outside, Parts, Show, Spawn
from webhook_server.publish.places import Places
from webhook_server.publish.plans import Plans
from webhook_server.publish.policy_checks import PolicyChecks
from webhook_server.publish.releases import Releases, in_background
from webhook_server.publish.retention import Retention
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
)

LEASE = timedelta(seconds=60)  # longer than any single request; uploads renew it
_BATCH = 20
_IDLE_S = 5.0  # the bell rings sooner
_IN_HAND_S = 1.0
_LANES = 8  # installations at once: one that does not answer takes 15 s of its own lane only


class Publisher:
    """`step` is the loop's step. Any number of replicas may run it."""

    def __init__(
        self, parts: Parts, *, spawn: Spawn = in_background, pool: Executor | None = None
    ) -> None:
        self._store, self._now = parts.publications, parts.now
        self._repositories, self._api = parts.repositories, parts.api
        self._pool = pool or ThreadPoolExecutor(_LANES, thread_name_prefix="publish")
        self._failures = Failures(parts)
        self._shows = _shows(parts, self._failures, spawn)

    def step(self) -> float:
        """Publish all that is due; return the seconds until the next look."""
        # A look costs a read; only what is due costs a write.
        while (due_at := self._store.next_due()) is not None:
            wait_s = (due_at - self._now()).total_seconds()
            if wait_s > 0:
                return min(wait_s, _IDLE_S)
            self._put_off_paused()
            claimed = self._store.claim(_BATCH, LEASE, self._now())
            if not claimed and self._store.next_due() == due_at:
                return _IN_HAND_S  # in other hands: look again when that may have ended
            self._publish_all(claimed)
        return _IDLE_S

    def _put_off_paused(self) -> None:
        """Let what GitHub does not take now wait, all at once: in an outage that is everything."""
        now = self._now()
        for installation_id, pace in self._api.paces().items() if self._api else ():
            until = pace.state().paused_until
            if until > now:
                self._store.put_off(installation_id, until, now)

    def _publish_all(self, claimed: list[Publication]) -> None:
        """Publish what was claimed: of one installation in turn, of several at once."""
        lanes: dict[int, list[Publication]] = {}
        for item in claimed:
            lanes.setdefault(self._lane(item), []).append(item)
        if len(lanes) == 1:
            self._publish_lane(*lanes.popitem())
            return
        for done in [self._pool.submit(self._publish_lane, *lane) for lane in lanes.items()]:
            done.result()

    def _lane(self, item: Publication) -> int:
        known = self._repositories.get(item.repository_id)
        # An unknown repository is looked up in its own lane: that takes requests too.
        return (known.installation_id if known else None) or -item.repository_id

    def _publish_lane(self, installation_id: int, lane: list[Publication]) -> None:
        for item in lane:
            paused_until = self._paused_until(installation_id)
            if paused_until is None:
                self._publish(item)
            else:  # not even looked at: a thousand would be, every two minutes of an outage
                self._store.save(replace(item, due_at=paused_until))

    def _paused_until(self, installation_id: int) -> datetime | None:
        if self._api is None:
            return None
        until = self._api.paused_until(installation_id)
        return until if until > self._now() else None

    def _publish(self, item: Publication) -> None:
        if item.due_at is not None:
            lag_s = (self._now() - item.due_at).total_seconds()
            METERS.observe(metrics.PUBLICATION_LAG, lag_s, kind=item.kind.value)
        if item.repository_id == 0:  # a folder on this machine: there is nowhere to show it
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        show = self._shows.get(item.kind)
        if show is None:
            note = "this server has no GitHub App. Set CYNTHUS_GITHUB_APP_ID."
            self._failures.refuse(item, note)
            return
        self._failures.guarded(item, lambda: show.show(item))


def _shows(parts: Parts, failures: Failures, spawn: Spawn) -> Mapping[PublicationKind, Show]:
    """Return who shows each kind; nobody, without a GitHub App."""
    if parts.api is None:
        return {}
    outside = Outside(
        api=parts.api,
        places=Places(parts.api, parts.repositories, parts.now),
        line=Line(parts.api, parts.now),
    )
    more: dict[PublicationKind, Show] = {}
    if parts.keeping is not None:
        more[PublicationKind.RETENTION] = Retention(parts, outside, parts.keeping)
    return {
        **more,
        PublicationKind.CHECK_RUN: CheckRuns(parts, outside, failures, spawn),
        PublicationKind.RELEASE: Releases(parts, outside, failures, spawn),
        PublicationKind.COMMENT: Comments(parts, outside, failures),
        PublicationKind.PLAN: Plans(parts, outside),
        PublicationKind.POLICY: PolicyChecks(parts, outside),
        PublicationKind.BUILD: Builds(parts, outside, failures),
    }
