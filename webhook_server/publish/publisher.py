"""The publishing loop: claim what is due, compare, send the difference, remember it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cynthus.errors import CynthusError, Refused, Transient
from webhook_server.bell import Bell
from webhook_server.github_api import GithubApi, NotFound
from webhook_server.intents import Place
from webhook_server.publish.feed import Feeds
from webhook_server.publish.places import Places
from webhook_server.publish.release_maker import ReleaseMaker, ReleaseSources
from webhook_server.runs.model import Run, State
from webhook_server.runs.report import BATCH, CheckRun, check_run
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
    PublicationStore,
)
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore, RunUnreadable

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # longer than any single request; uploads renew it
_BATCH = 20
_IDLE_S = 5.0  # the bell rings sooner
_IN_HAND_S = 1.0
# An hour-long run may cost 15 requests: news half a minute, 3 and 15 minutes after its start,
# then hourly. Whoever wants to watch has the live view, one click away.
_FIRST_PROGRESS = timedelta(seconds=30)
_SLOWER = 5
_SLOWEST = timedelta(hours=1)
# With many live runs each waits longer: all of them together stay below one write a second.
_SHARE = timedelta(seconds=2)
_COALESCE = timedelta(seconds=30)  # short states are shown only when they last
_URGENT = frozenset({State.BUILDING, State.RUNNING, State.FINISHED})
_BACKOFF, _LONGEST_BACKOFF = timedelta(seconds=2), timedelta(minutes=5)
_NOT_FOUND_TRIES = 3  # right after an installation GitHub may not know it everywhere
_AT_ONCE = 2  # releases: each may hold a large upload
_LIVE_AGE = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the publisher stands on."""

    api: GithubApi | None  # None: the server has no GitHub App
    runs: RunStore
    publications: PublicationStore
    repositories: RepositoryStore
    sources: ReleaseSources
    bell: Bell
    url_of: Callable[[str], str]  # run id → the dashboard's page
    now: Callable[[], datetime]


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="release", daemon=True).start()


class Publisher:
    """`step` is the loop's step. Any number of replicas may run it."""

    def __init__(
        self, parts: Parts, *, spawn: Callable[[Callable[[], None]], None] = _in_background
    ) -> None:
        self._parts, self._spawn = parts, spawn
        self._store, self._now = parts.publications, parts.now
        self._feeds = Feeds(parts.sources.events)
        self._places = Places(parts.api, parts.repositories, parts.now) if parts.api else None
        self._busy: dict[str, Publication] = {}  # releases in hand, with their newest claim
        self._begun: set[tuple[str, PublicationKind]] = set()  # creates that nobody tried yet
        self._lock = threading.Lock()
        self._live = (0, datetime.min.replace(tzinfo=UTC))

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
        try:
            run = self._parts.runs.get(item.run_id)
        except RunUnreadable as error:
            note = str(error)
            self._guarded(item, lambda: self._end_unreadable(item, note))
            return
        if run is None or run.key.repository_id == 0:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        if self._parts.api is None:
            self._refuse(item, "this server has no GitHub App. Set CYNTHUS_GITHUB_APP_ID.")
            return
        if item.kind is PublicationKind.RELEASE:
            self._begin_release(item, run)
            return
        self._guarded(item, lambda: self._show(item, run, self._parts.api))

    # ── failures: what waits, what ends ─────────────────────────────────────────────────────────

    def _guarded(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            work()
        except Transient as error:
            self._put_off(item, error, error.retry_at)
        except NotFound as error:
            if item.failures + 1 < _NOT_FOUND_TRIES:
                self._forget_place(item)
                self._put_off(item, error, None)
            else:
                self._refuse(item, str(error))
        except Refused as error:
            self._refuse(item, str(error))
        except Exception as error:  # one odd run must not stop the others
            log.exception("publication failed run=%s kind=%s", item.run_id, item.kind.value)
            self._put_off(item, error, None)

    def _end_unreadable(self, item: Publication, note: str) -> None:
        """End the check run of a run that nobody can read any more: it must not show it as live."""
        known = item.kind is PublicationKind.CHECK_RUN and item.repository_id != 0
        if self._parts.api and self._places and known and item.external_id is not None:
            place = self._places.find(item.repository_id, "")
            output = {"title": "the server has lost this run", "summary": f"{note}."}
            body = {"status": "completed", "conclusion": "failure", "output": output}
            self._parts.api.update_check_run(place, item.external_id, body)
        self._refuse(item, note)

    def _put_off(self, item: Publication, error: Exception, retry_at: datetime | None) -> None:
        failures = item.failures + 1
        wait = min(_BACKOFF * 2 ** min(failures, 12), _LONGEST_BACKOFF)
        wait *= random.uniform(0.75, 1.25)  # noqa: S311 - so that many do not come back at once
        due_at = max(self._now() + wait, retry_at or self._now())
        if retry_at is not None:
            due_at = retry_at  # GitHub said when
        note = str(error) if isinstance(error, CynthusError) else type(error).__name__
        # An update whose answer was lost may have added its annotations.
        sent = {**item.sent, "doubt": True} if item.external_id is not None else item.sent
        log.warning(
            "publication put off run=%s kind=%s failures=%s reason=%s",
            item.run_id,
            item.kind.value,
            failures,
            note,
        )
        self._store.save(replace(item, failures=failures, note=note, due_at=due_at, sent=sent))

    def _refuse(self, item: Publication, note: str) -> None:
        log.error("publication refused run=%s kind=%s note=%s", item.run_id, item.kind.value, note)
        state = PublicationState.REFUSED
        self._store.save(replace(item, state=state, note=note, due_at=None, failures=0))
        self._parts.bell.ring("runs")

    def _forget_place(self, item: Publication) -> None:
        known = self._parts.repositories.get(item.repository_id)
        if known is not None:
            self._parts.repositories.upsert(replace(known, installation_id=0), self._now())

    def _begin(self, item: Publication) -> bool:
        """Note durably that a create will be tried; False: another pass must do it.

        Save before you create: after a crash the flag says that GitHub has to be asked first.
        """
        key = (item.run_id, item.kind)
        if item.sent.get("begun"):
            return True
        with self._lock:
            self._begun.add(key)
        self._store.save(replace(item, sent={**item.sent, "begun": True}, due_at=self._now()))
        return False

    def _in_doubt(self, item: Publication) -> bool:
        """Say whether somebody may have created it already; ask once a create."""
        key = (item.run_id, item.kind)
        with self._lock:
            fresh = key in self._begun
            self._begun.discard(key)
        return not fresh

    # ── check runs ──────────────────────────────────────────────────────────────────────────────

    def _show(self, item: Publication, run: Run, api: GithubApi | None) -> None:
        if api is None or self._places is None:
            return
        wanted = self._wanted(run)
        due_at = self._when(item, run, wanted)
        if due_at is None or due_at > self._now():
            self._store.save(replace(item, due_at=due_at, failures=0))
            return
        place = self._places.find(run.key.repository_id, run.repository)
        ready_at = api.write_ready_at(place)
        if ready_at > self._now():  # others of this installation are first; no sleeping here
            self._store.save(replace(item, due_at=ready_at))
            return
        if item.external_id is None and not self._begin(item):
            return
        self._send(item, run, wanted, (api, place))

    def _wanted(self, run: Run) -> CheckRun:
        feed = self._feeds.read(run.id)
        return check_run(run, feed, url=self._parts.url_of(run.id), now=self._now())

    def _when(self, item: Publication, run: Run, wanted: CheckRun) -> datetime | None:
        """Return when this should be sent; None: it is shown already and nothing will change."""
        now = self._now()
        unsent = int(item.sent.get("annotations", 0)) < len(wanted.annotations)
        if item.external_id is None or item.sent_at is None:
            return now
        finished = run.state is State.FINISHED
        if item.sent_digest == wanted.digest and not unsent:
            return None if finished else now + self._interval(item)
        new_state = item.sent.get("state") != run.state.value
        if (new_state and run.state in _URGENT) or (unsent and finished):
            return now
        return item.sent_at + (_COALESCE if new_state else self._interval(item))

    def _interval(self, item: Publication) -> timedelta:
        times = min(int(item.sent.get("times", 0)), 10)
        slower: int = _SLOWER**times
        return min(max(_FIRST_PROGRESS * slower, _SHARE * self._live_runs()), _SLOWEST)

    def _live_runs(self) -> int:
        count, counted_at = self._live
        now = self._now()
        if now - counted_at > _LIVE_AGE:
            states = self._parts.runs.count_by_state()
            count = sum(number for state, number in states.items() if state is not State.FINISHED)
            self._live = (count, now)
        return count

    def _send(
        self, item: Publication, run: Run, wanted: CheckRun, to: tuple[GithubApi, Place]
    ) -> None:
        api, place = to
        item = self._without_doubt(item, wanted, to)
        sent = int(item.sent.get("annotations", 0))
        if item.external_id is None:
            found = (
                api.find_check_run(place, wanted.head_sha, wanted.external_id)
                if self._in_doubt(item)
                else None
            )
            if found is None:
                body = {"head_sha": wanted.head_sha, **wanted.body(sent)}
                found = api.create_check_run(place, body)
            else:
                # Created by a try whose answer was lost: its first annotations came with it.
                sent = api.annotations_of(place, found.id) if wanted.annotations else 0
                item = replace(item, sent={**item.sent, "annotations": sent})
                api.update_check_run(place, found.id, wanted.body(sent))
            item = replace(item, external_id=found.id, url=found.url)
        else:
            api.update_check_run(place, item.external_id, wanted.body(sent))
        self._remember(item, run, wanted, to)

    def _without_doubt(
        self, item: Publication, wanted: CheckRun, to: tuple[GithubApi, Place]
    ) -> Publication:
        """Ask GitHub how many annotations it has, after an update whose answer was lost."""
        if not item.sent.get("doubt") or item.external_id is None or not wanted.annotations:
            return item
        api, place = to
        shown = api.annotations_of(place, item.external_id)
        return replace(item, sent={**item.sent, "annotations": shown, "doubt": False})

    def _remember(
        self, item: Publication, run: Run, wanted: CheckRun, to: tuple[GithubApi, Place]
    ) -> None:
        now = self._now()
        shown = min(int(item.sent.get("annotations", 0)) + BATCH, len(wanted.annotations))
        same_state = item.sent.get("state") == run.state.value
        times = int(item.sent.get("times", 0)) + 1 if same_state else 0
        sent = {
            "begun": True,
            "annotations": shown,
            "state": run.state.value,
            "times": times,
        }
        new = replace(
            item,
            sent=sent,
            sent_digest=wanted.digest,
            sent_at=now,
            failures=0,
            note=None,
            state=PublicationState.DONE
            if run.state is State.FINISHED
            else PublicationState.PENDING,
        )
        due_at = now if shown < len(wanted.annotations) else now + self._interval(new)
        finished = run.state is State.FINISHED and shown == len(wanted.annotations)
        if finished:
            self._feeds.forget(run.id)
        if not self._store.save(replace(new, due_at=None if finished else due_at)):
            self._repair(new, run, to)

    def _repair(self, item: Publication, sent: Run, to: tuple[GithubApi, Place]) -> None:
        """Undo a late write: the claim was lost, so another replica may have sent newer news."""
        run = self._parts.runs.get(item.run_id)
        if run is None or item.external_id is None or run.state is sent.state:
            return
        api, place = to
        wanted = self._wanted(run)
        body = wanted.body(len(wanted.annotations))
        api.update_check_run(place, item.external_id, body)

    # ── releases ────────────────────────────────────────────────────────────────────────────────

    def _begin_release(self, item: Publication, run: Run) -> None:
        with self._lock:
            if item.run_id in self._busy:
                self._busy[item.run_id] = item  # claimed again by ourselves: a longer lease
                return
            full = len(self._busy) >= _AT_ONCE
        if item.state is not PublicationState.PENDING:
            self._store.save(replace(item, due_at=None))
        elif full:
            self._store.save(replace(item, due_at=self._now() + timedelta(seconds=1)))
        elif self._begin(item):
            with self._lock:
                self._busy[item.run_id] = item
            self._spawn(lambda: self._release(item, run))

    def _release(self, item: Publication, run: Run) -> None:
        def work() -> None:
            result = self._made(item, run)
            self._store.save(replace(self._newest(item), **result))

        self._guarded_release(item, work)
        self._parts.bell.ring("runs")

    def _guarded_release(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            self._guarded_as(item, work)
        finally:
            with self._lock:
                self._busy.pop(item.run_id, None)

    def _guarded_as(self, item: Publication, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - sorted by type where the others are
            caught = error

            def again() -> None:
                raise caught

            self._guarded(self._newest(item), again)

    def _newest(self, item: Publication) -> Publication:
        with self._lock:
            return self._busy.get(item.run_id, item)

    def _made(self, item: Publication, run: Run) -> dict[str, Any]:
        if self._parts.api is None or self._places is None:
            return {}
        maker = ReleaseMaker(
            self._parts.api,
            self._places.find(run.key.repository_id, run.repository),
            run,
            self._parts.sources,
        )
        release = maker.make(
            Feeds(self._parts.sources.events).read(run.id),
            url=self._parts.url_of(run.id),
            release_id=item.external_id,
            in_doubt=self._in_doubt(item),
        )
        log.info("release published run=%s tag=%s", run.id, release.tag)
        return {
            "state": PublicationState.DONE,
            "external_id": release.id,
            "url": release.url,
            "note": None,
            "failures": 0,
            "due_at": None,
        }
