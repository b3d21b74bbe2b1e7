"""Show what was answered at each pull request as one comment that is edited in place."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta

from cynthus.errors import Refused
from cynthus.frozen import replace
from webhook_server.github_api import NotFound
from webhook_server.intents import Place
from webhook_server.publish.creating import Creating
from webhook_server.publish.failures import Failures
from webhook_server.publish.line import left
from webhook_server.publish.parts import Outside, Parts
from webhook_server.publish.twins import doubted, look_at, looked, twins_of
from webhook_server.runs.model import Run
from webhook_server.runs.pull import Pull
from webhook_server.runs.sticky import RunLine, comment, marker_of
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
    pull_of,
)

log = logging.getLogger(__name__)

# Each edit is one of the installation's writes, and a state rarely lasts as long in the beginning.
_COALESCE = timedelta(seconds=30)
_RUNS = 60  # the newest: ten of the table, and two sweeps of ordinary size


class Comments:
    """The sticky comments of pull requests; there is never a second one."""

    def __init__(self, parts: Parts, outside: Outside, failures: Failures) -> None:
        self._parts, self._outside, self._failures = parts, outside, failures
        self._store, self._now = parts.publications, parts.now
        self._creating = Creating(parts)

    def show(self, item: Publication) -> None:
        """Bring one comment up to date."""
        pull = self._parts.pulls.get(*pull_of(item.subject))
        if pull is None or not pull.replies:  # nobody is written to who has not asked
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        newest = pull.replies[-1].key
        if item.sent.get("closed") == newest:
            # Deleted or locked by a person: only a new question opens it again.
            self._store.save(replace(item, state=PublicationState.REFUSED, due_at=None))
            return
        due_at = self._when(item, pull)
        if due_at > self._now():  # before anything is read: many runs change at the same time
            self._store.save(replace(item, due_at=due_at))
            return
        text = self._text(pull)
        if item.sent_digest == _digest(text):
            item = self._without_twins(item, pull)
            done = PublicationState.DONE
            self._store.save(replace(item, state=done, due_at=look_at(item), failures=0))
        else:
            self._send(item, pull, text)

    def _text(self, pull: Pull) -> str:
        runs = self._parts.runs.of_pull(pull.repository_id, pull.number, limit=_RUNS)
        return comment(pull, [self._line(run) for run in runs], self._parts.url_of)

    def _line(self, run: Run) -> RunLine:
        shown = self._store.get(run.id, PublicationKind.CHECK_RUN)
        swept = run.origin.sweep is not None
        metrics = self._parts.sources.events.latest(run.id).metrics if swept else {}
        return RunLine(run=run, metrics=metrics, check_url=shown.url if shown else None)

    def _when(self, item: Publication, pull: Pull) -> datetime:
        """Return when the comment may be looked at."""
        if item.sent_at is None or _is_awaited(item, pull):
            return self._now()
        return item.sent_at + _COALESCE

    def _send(self, item: Publication, pull: Pull, text: str) -> None:
        place = self._outside.places.find(pull.repository_id, pull.repository)
        if item.external_id is None and not self._creating.begin(item):
            return
        waiting = self._outside.line.wait(item, place, urgent=_is_awaited(item, pull))
        if waiting is not None:  # others of this installation are first; no sleeping here
            self._store.save(waiting)
            return
        item = left(item)
        try:
            sent = self._sent(item, pull, text, place)
        except NotFound:
            raise  # the way to the repository may be gone: the others sort that
        except Refused as error:  # locked, or no permission to write
            closed = {**item.sent, "closed": pull.replies[-1].key}
            self._failures.refuse(replace(item, sent=closed), str(error))
            return
        if not self._store.save(sent):
            self._repair(sent, pull, text, place)

    def _sent(self, item: Publication, pull: Pull, text: str, place: Place) -> Publication:
        """Return the publication as it is after the write."""
        if item.external_id is not None:
            try:
                self._outside.api.update_comment(place, item.external_id, text)
            except NotFound:
                return self._deleted(item, pull)
            return self._remembered(item, pull, text)
        api = self._outside.api
        found = None
        if self._creating.in_doubt(item):
            item = doubted(item, self._now())
            found = api.find_comment(place, pull.number, marker_of(pull))
        if found is None:
            found = api.create_comment(place, pull.number, text)
        else:
            api.update_comment(place, found.id, text)
        return self._remembered(replace(item, external_id=found.id, url=found.url), pull, text)

    def _deleted(self, item: Publication, pull: Pull) -> Publication:
        """Forget a comment that a person has deleted: made anew, but only for a new question."""
        newest = pull.replies[-1].key
        gone = replace(item, external_id=None, url=None, sent_digest=None, failures=0)
        if item.sent.get("newest") == newest:
            note = "the comment was deleted; the next answer makes a new one."
            closed = {**item.sent, "closed": newest}
            state = PublicationState.REFUSED
            return replace(gone, sent=closed, note=note, due_at=None, state=state)
        # It is looked for before it is made: what is hidden from us for a while looks as if gone.
        return replace(gone, due_at=self._now())

    def _remembered(self, item: Publication, pull: Pull, text: str) -> Publication:
        return replace(
            item,
            sent={**twins_of(item), "begun": True, "newest": pull.replies[-1].key},
            sent_digest=_digest(text),
            sent_at=self._now(),
            state=PublicationState.DONE,  # whatever happens next makes it due again
            note=None,
            failures=0,
            due_at=look_at(item),
        )

    def _without_twins(self, item: Publication, pull: Pull) -> Publication:
        """Delete comments that creates with lost answers made; only once none can come any more."""
        due_at = look_at(item)
        if due_at is None or due_at > self._now():
            return item
        place = self._outside.places.find(pull.repository_id, pull.repository)
        for twin in list(self._outside.api.comments_of(place, pull.number, marker_of(pull))):
            if twin.id != item.external_id:
                log.info("twin deleted subject=%s comment=%s", item.subject, twin.id)
                self._outside.api.delete_comment(place, twin.id)
        return looked(item)

    def _repair(self, item: Publication, pull: Pull, sent: str, place: Place) -> None:
        """Undo a late write: the claim was lost, so another replica may have sent newer news."""
        found = self._parts.pulls.get(pull.repository_id, pull.number)
        if item.external_id is None or found is None:
            return
        text = self._text(found)
        if text != sent:
            self._outside.api.update_comment(place, item.external_id, text)


def _is_awaited(item: Publication, pull: Pull) -> bool:
    """Say whether somebody waits for the answer; news of the runs gives way to others."""
    return bool(item.sent.get("newest") != pull.replies[-1].key)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
