"""Send check runs: create each once, change it, or make another where GitHub keeps the old one."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from cynthus.frozen import replace
from webhook_server.github_api import CheckRunRef
from webhook_server.intents import Place
from webhook_server.publish.creating import Creating
from webhook_server.publish.line import left
from webhook_server.publish.parts import Outside, Parts
from webhook_server.publish.twins import doubted, looked
from webhook_server.runs.report import BATCH, CheckRun
from webhook_server.stores.publication_store import Publication

log = logging.getLogger(__name__)

_ANNOTATIONS, _CONCLUSION, _OLDER = "annotations", "conclusion", "older"  # in `Publication.sent`
_MADE_AT = "made_at"
_DOUBT = "doubt"  # the answer to an update was lost: nobody knows what of it GitHub took
#: What `Publication.sent` tells of one check run, and of no other in its place.
_OF_ONE = frozenset(
    {"begun", "state", "times", _ANNOTATIONS, _CONCLUSION, _OLDER, _MADE_AT, _DOUBT}
)
#: GitHub concludes one that is unfinished after 14 days, and then it stays so; a day before that
#: leaves time for an outage of GitHub's:
#: https://docs.github.com/rest/guides/using-the-rest-api-to-interact-with-checks#about-check-runs
_STALE = timedelta(days=13)


class Sending:
    """The way of every kind of check run to GitHub: `is_sent`? Its `turn`, then `send`."""

    def __init__(self, outside: Outside, parts: Parts) -> None:
        self._api, self._line = outside.api, outside.line
        self._store, self._now = parts.publications, parts.now
        self._creating = Creating(parts)

    def turn(
        self, item: Publication, wanted: CheckRun, place: Place, *, urgent: bool
    ) -> Publication | None:
        """Return the item once it may be sent; None: it was saved, and another pass must send it.

        `urgent` False: news of progress, which gives way to others. Raises what GithubApi raises.
        """
        item = renewed(self._without_doubt(item, place), wanted)
        if item.external_id is None and not self._creating.begin(item):
            return None
        waiting = self._line.wait(item, place, urgent=urgent)
        if waiting is not None:  # others of this installation are first; no sleeping here
            self._store.save(waiting)
            return None
        return left(item)

    def send(self, item: Publication, wanted: CheckRun, place: Place) -> Publication:
        """Create or update the check run with its next batch of annotations.

        Returns the item as it is to be saved; its state and `due_at` are the caller's. Raises what
        GithubApi raises; then the next try asks GitHub first what became of this one.
        """
        item = self._found(item, wanted, place)
        shown = _annotations_of(item)
        if item.external_id is None:
            body = {"head_sha": wanted.head_sha, **wanted.body(shown)}
            made = self._api.create_check_run(place, body)
            sent = {**item.sent, _MADE_AT: self._now().isoformat()}
            item = replace(item, external_id=made.id, url=made.url, sent=sent)
        else:
            self._api.update_check_run(place, item.external_id, wanted.body(shown))
        kept = {key: value for key, value in item.sent.items() if key != _OLDER}
        sent = {
            _ANNOTATIONS: min(shown + BATCH, len(wanted.annotations)),
            _CONCLUSION: wanted.conclusion,
        }
        return replace(
            item,
            sent=kept | sent,
            sent_digest=wanted.digest,
            sent_at=self._now(),
            note=None,
            failures=0,
        )

    def _found(self, item: Publication, wanted: CheckRun, place: Place) -> Publication:
        """Return the item with the check run of a try whose answer was lost, if that can be it."""
        if item.external_id is not None or not self._creating.in_doubt(item):
            return item
        item = doubted(item, self._now())
        older = older_of(item) or 0
        found = self._api.find_check_run(
            place, wanted.head_sha, wanted.external_id, newer_than=older
        )
        # One that was concluded otherwise meanwhile stays so, and another follows it.
        if found is None or found.conclusion not in {None, wanted.conclusion}:
            return item
        return replace(item, external_id=found.id, url=found.url, sent=item.sent | _told(found))

    def without_twins(self, item: Publication, wanted: CheckRun, place: Place) -> Publication:
        """Let check runs that creates with lost answers made say what this one says.

        Safe to repeat. Returns the item without the note of them; without its check run where one
        that was concluded otherwise came after it, so that another becomes the newest.
        Raises what GithubApi raises.
        """
        own = item.external_id or 0
        above = own
        for twin in self._api.check_runs_of(place, wanted.head_sha, wanted.external_id):
            if twin.status == "completed" and twin.conclusion != wanted.conclusion:
                above = max(above, twin.id)
            elif twin.id > own or twin.status != "completed":
                log.info("twin concluded subject=%s check_run=%s", item.subject, twin.id)
                body = wanted.body(len(wanted.annotations))
                self._api.update_check_run(place, twin.id, body)
        item = looked(item)
        return item if above == own else _replaced(item, above)

    def _without_doubt(self, item: Publication, place: Place) -> Publication:
        """Ask GitHub what it shows, after an update whose answer was lost."""
        if not item.sent.get(_DOUBT) or item.external_id is None:
            return item
        found = self._api.check_run(place, item.external_id)
        return replace(item, sent=item.sent | _told(found) | {_DOUBT: False})


def _told(found: CheckRunRef) -> dict[str, Any]:
    return {_ANNOTATIONS: found.annotations, _CONCLUSION: found.conclusion}


def is_sent(item: Publication, wanted: CheckRun) -> bool:
    """Say whether GitHub surely shows all of it: what it says, and each annotation."""
    if item.sent.get(_DOUBT):
        return False
    return item.sent_digest == wanted.digest and not has_more(item, wanted)


def has_more(item: Publication, wanted: CheckRun) -> bool:
    """Say whether annotations are left: GitHub takes fifty with a request."""
    return _annotations_of(item) < len(wanted.annotations)


def renewed(item: Publication, wanted: CheckRun) -> Publication:
    """Return the item as it is; without its check run where that was concluded otherwise.

    A check run that is completed stays so: GitHub takes an update of its status or conclusion and
    does nothing. Another of the same name takes its place, since of one name the newest counts.
    https://github.com/orgs/community/discussions/24761
    """
    concluded = item.sent.get(_CONCLUSION)
    if item.external_id is None or concluded in {None, wanted.conclusion}:
        return item
    return _replaced(item, item.external_id)


def kept_fresh(item: Publication, now: datetime) -> Publication:
    """Return the item; without its check run where GitHub would soon call that stale.

    Another of the same name takes its place, since of one name the newest counts.
    """
    made_at = item.sent.get(_MADE_AT)
    if item.external_id is None or made_at is None:
        return item
    is_old = now - datetime.fromisoformat(str(made_at)) >= _STALE
    return _replaced(item, item.external_id) if is_old else item


def _replaced(item: Publication, older: int) -> Publication:
    """Return the item as one whose check run is to be made anew, above that older one."""
    sent = {key: value for key, value in item.sent.items() if key not in _OF_ONE}
    sent[_OLDER] = older
    return replace(item, external_id=None, sent_digest=None, sent_at=None, url=None, sent=sent)


def older_of(item: Publication) -> int | None:
    """Return the check run whose place another is to take, until that one is there."""
    older: int | None = item.sent.get(_OLDER)
    return older


def _annotations_of(item: Publication) -> int:
    return int(item.sent.get(_ANNOTATIONS, 0))
