"""Sort what GitHub's refusals and outages mean for a publication: wait, or end it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cynthus.errors import CynthusError, Refused, Transient
from cynthus.frozen import replace
from webhook_server import metrics
from webhook_server.about import about
from webhook_server.github_api import NotFound
from webhook_server.metrics import METERS
from webhook_server.publish.parts import Parts
from webhook_server.stores.publication_store import Publication, PublicationState
from webhook_server.traces import span

log = logging.getLogger(__name__)

_BACKOFF, _LONGEST_BACKOFF = timedelta(seconds=2), timedelta(minutes=5)
NOT_FOUND_TRIES = 3  # right after an installation GitHub may not know it everywhere


class Failures:
    """Carries out one publication's work, and notes how it failed."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._store, self._now = parts, parts.publications, parts.now

    def guarded(self, item: Publication, work: Callable[[], None]) -> None:
        """Do the work; whatever it raises becomes a later try, or the publication's end."""
        subject = "pull" if "/" in item.subject else "run"  # a run's id, or pull/…, commit/…
        with about(**{subject: item.subject}), span("publish", kind=item.kind.value):
            self._sorted(item, work)

    def _sorted(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            work()
        except Transient as error:
            self._put_off(item, error, error.retry_at)
        except NotFound as error:
            if item.failures + 1 < NOT_FOUND_TRIES:
                self._forget_place(item)
                self._put_off(item, error, None)
            else:
                self.refuse(item, str(error))
        except Refused as error:
            self.refuse(item, str(error))
        except Exception as error:  # one odd subject must not stop the others
            log.exception("publication failed subject=%s kind=%s", item.subject, item.kind.value)
            self._put_off(item, error, None)

    def _put_off(self, item: Publication, error: Exception, retry_at: datetime | None) -> None:
        failures = item.failures + 1
        wait = min(_BACKOFF * 2 ** min(failures, 12), _LONGEST_BACKOFF)
        wait *= self._parts.spread(0.75, 1.25)  # so that many do not come back at once
        due_at = max(self._now() + wait, retry_at or self._now())
        if retry_at is not None:
            due_at = retry_at  # GitHub said when
        note = str(error) if isinstance(error, CynthusError) else type(error).__name__
        # An update whose answer was lost may have added its annotations.
        sent = {**item.sent, "doubt": True} if item.external_id is not None else item.sent
        log.warning(
            "publication put off subject=%s kind=%s failures=%s reason=%s",
            item.subject,
            item.kind.value,
            failures,
            note,
        )
        METERS.add(metrics.PUBLICATIONS_FAILED, kind=item.kind.value, how="put_off")
        self._store.save(replace(item, failures=failures, note=note, due_at=due_at, sent=sent))

    def refuse(self, item: Publication, note: str) -> None:
        """End the publication: GitHub said no for good."""
        log.error(
            "publication refused subject=%s kind=%s note=%s", item.subject, item.kind.value, note
        )
        METERS.add(metrics.PUBLICATIONS_FAILED, kind=item.kind.value, how="refused")
        state = PublicationState.REFUSED
        self._store.save(replace(item, state=state, note=note, due_at=None, failures=0))
        self._parts.bell.ring("runs")

    def _forget_place(self, item: Publication) -> None:
        known = self._parts.repositories.get(item.repository_id)
        if known is not None:
            self._parts.repositories.upsert(replace(known, installation_id=0), self._now())
