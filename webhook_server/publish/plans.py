"""Show the plan of each pull request's head as a check run that can be required."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webhook_server.intents import Place
from webhook_server.publish.creating import Creating
from webhook_server.publish.parts import Outside, Parts
from webhook_server.runs.plan_check import plan_check
from webhook_server.runs.pull import Pull
from webhook_server.runs.report import BATCH, CheckRun
from webhook_server.stores.publication_store import Publication, PublicationState, pull_of


class Plans:
    """The check runs `cynthus/plan`, one a head."""

    def __init__(self, parts: Parts, outside: Outside) -> None:
        self._parts, self._outside = parts, outside
        self._store, self._now = parts.publications, parts.now
        self._creating = Creating(parts.publications, parts.now)

    def show(self, item: Publication) -> None:
        """Bring the newest head's plan up to date; those of older heads stay as they were."""
        pull = self._parts.pulls.get(*pull_of(item.subject))
        if pull is None or pull.plan is None:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        wanted = plan_check(pull.plan, external_id=item.subject, now=self._now())
        if item.sent.get("sha") not in {None, wanted.head_sha}:
            item = _of_new_head(item)
        unsent = int(item.sent.get("annotations", 0)) < len(wanted.annotations)
        if item.sent_digest == wanted.digest and not unsent:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None, failures=0))
            return
        self._send(item, pull, wanted)

    def _send(self, item: Publication, pull: Pull, wanted: CheckRun) -> None:
        api = self._outside.api
        place = self._outside.places.find(pull.repository_id, pull.repository)
        ready_at = api.write_ready_at(place)
        if ready_at > self._now():  # others of this installation are first; no sleeping here
            self._store.save(replace(item, due_at=ready_at))
            return
        noted = replace(item, sent={**item.sent, "sha": wanted.head_sha})
        if item.external_id is None and not self._creating.begin(noted):
            return
        item = self._sent(noted, wanted, place)
        more = int(item.sent["annotations"]) < len(wanted.annotations)
        self._store.save(replace(item, due_at=self._now() if more else None))

    def _sent(self, item: Publication, wanted: CheckRun, place: Place) -> Publication:
        """Create or update the check run with its next batch of annotations."""
        api, item = self._outside.api, self._without_doubt(item, wanted, place)
        if item.external_id is None and self._creating.in_doubt(item):
            found = api.find_check_run(place, wanted.head_sha, wanted.external_id)
            if found is not None:  # its first annotations came with it
                shown = api.annotations_of(place, found.id) if wanted.annotations else 0
                sent: dict[str, Any] = {**item.sent, "annotations": shown}
                item = replace(item, external_id=found.id, url=found.url, sent=sent)
        shown = self._shown(item, wanted)
        if item.external_id is None:
            body = {"head_sha": wanted.head_sha, **wanted.body(shown)}
            made = api.create_check_run(place, body)
            item = replace(item, external_id=made.id, url=made.url)
        else:
            api.update_check_run(place, item.external_id, wanted.body(shown))
        return replace(
            item,
            sent={
                "begun": True,
                "sha": wanted.head_sha,
                "annotations": min(shown + BATCH, len(wanted.annotations)),
            },
            sent_digest=wanted.digest,
            sent_at=self._now(),
            state=PublicationState.DONE,
            note=None,
            failures=0,
        )

    def _without_doubt(self, item: Publication, wanted: CheckRun, place: Place) -> Publication:
        """Ask GitHub how many annotations it has, after an update whose answer was lost."""
        if not item.sent.get("doubt") or item.external_id is None or not wanted.annotations:
            return item
        shown = self._outside.api.annotations_of(place, item.external_id)
        return replace(item, sent={**item.sent, "annotations": shown, "doubt": False})

    def _shown(self, item: Publication, wanted: CheckRun) -> int:
        """Return how many annotations GitHub has; of one commit they never differ."""
        return min(int(item.sent.get("annotations", 0)), len(wanted.annotations))


def _of_new_head(item: Publication) -> Publication:
    return replace(item, external_id=None, url=None, sent_digest=None, sent={}, failures=0)
