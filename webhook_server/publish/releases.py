"""Make the releases of runs, each in the background: an upload may take long."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cynthus.errors import Refused
from cynthus.frozen import replace
from webhook_server.github_api import NotFound
from webhook_server.github_api import Releases as Hosted
from webhook_server.publish.creating import Creating
from webhook_server.publish.failures import Failures
from webhook_server.publish.feed import Feeds
from webhook_server.publish.parts import Outside, Parts, Spawn
from webhook_server.publish.release_maker import ReleaseMaker
from webhook_server.publish.twins import doubted, look_at, looked
from webhook_server.runs import release as shape
from webhook_server.runs.model import Run
from webhook_server.stores.publication_store import Publication, PublicationState
from webhook_server.stores.writer import DatabaseUnavailable

log = logging.getLogger(__name__)

_AT_ONCE = 2  # each may hold a large upload


def in_background(work: Callable[[], None]) -> None:
    """Begin the work in a thread of its own."""
    threading.Thread(target=work, name="release", daemon=True).start()


class Releases:
    """The releases of runs."""

    def __init__(self, parts: Parts, outside: Outside, failures: Failures, spawn: Spawn) -> None:
        self._parts, self._outside, self._failures = parts, outside, failures
        self._store, self._now, self._spawn = parts.publications, parts.now, spawn
        self._creating = Creating(parts)
        self._busy: dict[str, Publication] = {}  # those in hand, with their newest claim
        self._lock = threading.Lock()

    def show(self, item: Publication) -> None:
        """Begin to make one release, unless it is in hand already."""
        run = self._parts.runs.get(item.subject)
        if run is None or run.key.repository_id == 0:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        self._begin(item, run)

    def _begin(self, item: Publication, run: Run) -> None:
        with self._lock:
            if item.subject in self._busy:
                self._busy[item.subject] = item  # claimed again by ourselves: a longer lease
                return
            full = len(self._busy) >= _AT_ONCE
        if item.state is not PublicationState.PENDING:
            self._look_for_twins(item, run)
        elif full:
            self._store.save(replace(item, due_at=self._now() + timedelta(seconds=1)))
        elif self._creating.begin(item):
            with self._lock:
                self._busy[item.subject] = item
            self._spawn(lambda: self._release(item, run))

    def _look_for_twins(self, item: Publication, run: Run) -> None:
        """Delete drafts that creates with lost answers made; only once none can come any more.

        The release stands, whatever GitHub says of its twins: only an outage puts the look off.
        """
        due_at = look_at(item)
        if item.state is PublicationState.DONE and due_at is not None:
            if due_at > self._now():
                self._store.save(replace(item, due_at=due_at))
                return
            try:
                place = self._outside.places.find(run.key.repository_id, run.repository)
                delete_twins(Hosted(self._outside.api, place), run, item.external_id)
            except Refused as error:
                log.warning("twins are left run=%s reason=%s", run.id, error)
        self._store.save(replace(looked(item), due_at=None, failures=0))

    def _release(self, item: Publication, run: Run) -> None:
        def work() -> None:
            result = self._made(item, run)
            saved = self._store.save(replace(self._newest(item), **result))
            if saved and self._parts.keeping is not None:
                self._store.make_retention_due(item, self._now())

        try:
            self._guarded_release(item, work)
        except DatabaseUnavailable as error:
            # Not even that it failed can be stored: its claim runs out by itself, then it goes on.
            log.warning("release left run=%s reason=%s", item.subject, error)
        self._parts.bell.ring("runs")

    def _guarded_release(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            self._guarded_as(item, work)
        finally:
            with self._lock:
                self._busy.pop(item.subject, None)

    def _guarded_as(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - sorted by type where the others are
            caught = error

            def again() -> None:
                raise caught

            self._failures.guarded(self._newest(item), again)

    def _newest(self, item: Publication) -> Publication:
        with self._lock:
            return self._busy.get(item.subject, item)

    def _made(self, item: Publication, run: Run) -> dict[str, Any]:
        in_doubt = self._creating.in_doubt(item)
        if in_doubt:
            item = doubted(item, self._now())
        maker = ReleaseMaker(
            self._outside.api,
            self._outside.places.find(run.key.repository_id, run.repository),
            run,
            self._parts.sources,
        )
        release = maker.make(
            Feeds(self._parts.sources.events).read(run.id),
            url=self._parts.url_of(run.id),
            release_id=item.external_id,
            in_doubt=in_doubt,
        )
        log.info("release published run=%s tag=%s", run.id, release.tag)
        return {
            "state": PublicationState.DONE,
            "external_id": release.id,
            "sent": {**item.sent, "tag": release.tag, "kept": release.immutable},
            "url": release.url,
            "note": None,
            "failures": 0,
            "due_at": look_at(item),
        }


def delete_twins(releases: Hosted, run: Run, own_id: int | None) -> None:
    """Delete each draft of the run's release beside its own; what is published stays.

    Safe to repeat. Raises what GithubApi raises.
    """
    for twin in list(releases.of(tag=shape.tag_of(run), marker=shape.marker_of(run))):
        if twin.draft and twin.id != own_id:
            log.info("twin deleted run=%s release=%s", run.id, twin.id)
            with contextlib.suppress(NotFound):  # by another pass, or a person
                releases.delete(twin.id)
