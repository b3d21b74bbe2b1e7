"""Show each run as a check run: compare, send the difference, remember it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cynthus.frozen import replace
from webhook_server.intents import Place
from webhook_server.publish.advices import Advices, settled, with_advice
from webhook_server.publish.beside import around
from webhook_server.publish.failures import Failures
from webhook_server.publish.feed import Feeds
from webhook_server.publish.parts import Outside, Parts, Spawn
from webhook_server.publish.sending import (
    Sending,
    has_more,
    is_sent,
    kept_fresh,
    older_of,
    renewed,
)
from webhook_server.publish.twins import look_at
from webhook_server.runs.model import Run, State
from webhook_server.runs.report import CheckRun, check_run, lost_run
from webhook_server.runs.sizing import wish
from webhook_server.runs.standing import shown_as
from webhook_server.stores.publication_store import Publication, PublicationState
from webhook_server.stores.run_reading import RunUnreadable

# An hour-long run may cost 15 requests: news half a minute, 3 and 15 minutes after its start,
# then hourly. Whoever wants to watch has the live view, one click away.
_FIRST_PROGRESS = timedelta(seconds=30)
_SLOWER = 5
_SLOWEST = timedelta(hours=1)
# With many live runs each waits longer: all of an installation together stay below one write a
# second.
_SHARE = timedelta(seconds=2)
_COALESCE = timedelta(seconds=30)  # short states are shown only when they last
_URGENT = frozenset({State.BUILDING, State.RUNNING, State.FINISHED})
_LIVE_AGE = timedelta(seconds=30)
_ADVICE_TAKES = timedelta(seconds=1)  # between two looks whether it came; the bell is sooner
_HELD = "held"


class CheckRuns:
    """The check runs of runs."""

    def __init__(self, parts: Parts, outside: Outside, failures: Failures, spawn: Spawn) -> None:
        self._parts, self._outside, self._failures = parts, outside, failures
        self._store, self._now = parts.publications, parts.now
        self._advices = Advices(parts, spawn)
        self._feeds = Feeds(parts.sources.events)
        self._sending = Sending(outside, parts)
        self._live: dict[int, int] = {}  # by installation
        self._counted_at = datetime.min.replace(tzinfo=UTC)

    def show(self, item: Publication) -> None:
        """Bring one check run up to date."""
        try:
            run = self._parts.runs.get(item.subject)
        except RunUnreadable as error:
            self._end_unreadable(item, str(error))
            return
        if run is None or run.key.repository_id == 0:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        self._show(item, run)

    def _end_unreadable(self, item: Publication, note: str) -> None:
        """End the check run of a run that nobody can read any more: it must not show it as live."""
        shown = item.external_id or older_of(item)
        if item.repository_id == 0 or shown is None or _is_ended(item):
            self._failures.refuse(item, note)
            return
        place = self._outside.places.find(item.repository_id, "")
        known = self._outside.api.check_run(place, shown)  # its record is lost: GitHub knows
        wanted = lost_run(known.name, known.head_sha, item.subject, note=note, now=self._now())
        ready = self._sending.turn(item, wanted, place, urgent=True)
        if ready is not None:
            self._failures.refuse(self._sending.send(ready, wanted, place), note)

    def _show(self, item: Publication, run: Run) -> None:
        item = self._with_advice(item, run)
        wanted = self._wanted(item, run)
        item = renewed(item, wanted)
        if run.state is not State.FINISHED:
            item = kept_fresh(item, self._now())
        if self._is_over(item, run, wanted):
            place = self._outside.places.find(run.key.repository_id, run.repository)
            item = self._sending.without_twins(item, wanted, place)
        due_at = self._when(item, run, wanted)
        if due_at is None:
            self._feeds.forget(run.id)
        if due_at is None or due_at > self._now():
            self._store.save(replace(item, due_at=due_at, failures=0))
            return
        place = self._outside.places.find(run.key.repository_id, run.repository)
        ready = self._sending.turn(item, wanted, place, urgent=self._is_urgent(item, run))
        if ready is not None:
            self._remember(self._sending.send(ready, wanted, place), run, wanted, place)

    def _is_over(self, item: Publication, run: Run, wanted: CheckRun) -> bool:
        """Say whether the end is shown, and no lost create can take effect any more."""
        due_at = look_at(item)
        ended = run.state is State.FINISHED and is_sent(item, wanted)
        return ended and due_at is not None and due_at <= self._now()

    def _is_urgent(self, item: Publication, run: Run) -> bool:
        """Say whether GitHub shows something wrong: progress alone can wait."""
        return item.sent.get("state") != shown_as(run) or run.state is State.FINISHED

    def _with_advice(self, item: Publication, run: Run) -> Publication:
        """Return the publication with the advice on a finished run: its end is shown before."""
        if run.state is not State.FINISHED or settled(item):
            return item
        usage = self._feeds.read(run.id).usage
        if wish(run, usage) is None:
            return with_advice(item, None)
        end_is_shown = item.sent.get("state") == shown_as(run)
        return self._advices.added(item, run, usage) if end_is_shown else item

    def _wanted(self, item: Publication, run: Run) -> CheckRun:
        feed, url = self._feeds.read(run.id), self._parts.url_of(run.id)
        beside = around(self._parts, item, run)
        return check_run(run, feed, url=url, now=self._now(), around=beside)

    def _when(self, item: Publication, run: Run, wanted: CheckRun) -> datetime | None:
        """Return when this should be sent; None: it is shown already and nothing will change."""
        now = self._now()
        if item.external_id is None or item.sent_at is None:
            return now
        shown, told = shown_as(run), item.sent.get("state")
        if is_sent(item, wanted):
            return self._next_look(item, run)
        urgent = run.state in _URGENT or _HELD in (shown, told)  # a person waits for it
        if (shown != told and urgent) or run.state is State.FINISHED:
            return now
        return item.sent_at + (_COALESCE if shown != told else self._interval(item))

    def _next_look(self, item: Publication, run: Run) -> datetime | None:
        """Return when a run whose newest state is shown may have news; None: never again."""
        if run.state is not State.FINISHED:
            return self._now() + self._interval(item)
        return look_at(item) if settled(item) else self._now() + _ADVICE_TAKES

    def _interval(self, item: Publication) -> timedelta:
        times = min(int(item.sent.get("times", 0)), 10)
        slower: int = _SLOWER**times
        share = _SHARE * self._live_runs(item.repository_id)
        return min(max(_FIRST_PROGRESS * slower, share), _SLOWEST)

    def _live_runs(self, repository_id: int) -> int:
        """Return how many live runs share the installation's limits, at most half a minute old."""
        now = self._now()
        if now - self._counted_at > _LIVE_AGE:
            self._live, self._counted_at = self._parts.runs.live_by_installation(), now
        known = self._parts.repositories.get(repository_id)
        return self._live.get((known.installation_id if known else None) or 0, 0)

    def _remember(self, item: Publication, run: Run, wanted: CheckRun, place: Place) -> None:
        now, shown = self._now(), shown_as(run)
        times = int(item.sent.get("times", 0)) + 1 if item.sent.get("state") == shown else 0
        new = replace(
            item,
            sent={**item.sent, "state": shown, "times": times},
            state=PublicationState.DONE
            if run.state is State.FINISHED
            else PublicationState.PENDING,
        )
        due_at = now if has_more(new, wanted) else self._next_look(new, run)
        if due_at is None:
            self._feeds.forget(run.id)
        if not self._store.save(replace(new, due_at=due_at)):
            self._repair(new, run, place)

    def _repair(self, item: Publication, sent: Run, place: Place) -> None:
        """Undo a late write: the claim was lost, so another replica may have sent newer news."""
        run = self._parts.runs.get(item.subject)
        if run is None or item.external_id is None or run.state is sent.state:
            return
        wanted = self._wanted(item, run)
        body = wanted.body(len(wanted.annotations))
        self._outside.api.update_check_run(place, item.external_id, body)


def _is_ended(item: Publication) -> bool:
    """Say whether the check run shows how its run ended: that stays true."""
    return item.sent.get("state") == State.FINISHED.value
