"""The publishing loop: claim what is due, and let its kind be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from webhook_server.publish.builds import Builds
from webhook_server.publish.check_runs import CheckRuns
from webhook_server.publish.comments import Comments
from webhook_server.publish.failures import Failures
from webhook_server.publish.parts import Outside, Parts, Show
from webhook_server.publish.places import Places
from webhook_server.publish.plans import Plans
from webhook_server.publish.releases import Releases, Spawn, in_background
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


class Publisher:
    """`step` is the loop's step. Any number of replicas may run it."""

    def __init__(self, parts: Parts, *, spawn: Spawn = in_background) -> None:
        self._store, self._now = parts.publications, parts.now
        self._failures = Failures(parts)
        self._shows = _shows(parts, self._failures, spawn)

    def step(self) -> float:
        """Publish all that is due; return the seconds until the next look."""
        # A look costs a read; only what is due costs a write.
        while (due_at := self._store.next_due()) is not None:
            wait_s = (due_at - self._now()).total_seconds()
            if wait_s > 0:
                return min(wait_s, _IDLE_S)
            claimed = self._store.claim(_BATCH, LEASE, self._now())
            if not claimed:  # in other hands: look again when that may have ended
                return _IN_HAND_S
            for item in claimed:
                self._publish(item)
        return _IDLE_S

    def _publish(self, item: Publication) -> None:
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
    outside = Outside(api=parts.api, places=Places(parts.api, parts.repositories, parts.now))
    more: dict[PublicationKind, Show] = {}
    if parts.keeping is not None:
        more[PublicationKind.RETENTION] = Retention(parts, outside, parts.keeping)
    return {
        **more,
        PublicationKind.CHECK_RUN: CheckRuns(parts, outside, failures),
        PublicationKind.RELEASE: Releases(parts, outside, failures, spawn),
        PublicationKind.COMMENT: Comments(parts, outside, failures),
        PublicationKind.PLAN: Plans(parts, outside),
        PublicationKind.BUILD: Builds(parts, outside, failures),
    }
