"""Show the plan of each pull request's head as a check run that can be required."""

from __future__ import annotations

from cynthus.frozen import replace
from webhook_server.intents import Place
from webhook_server.publish.parts import Outside, Parts
from webhook_server.publish.sending import Sending, has_more, is_sent
from webhook_server.publish.twins import look_at
from webhook_server.runs.plan_check import plan_check
from webhook_server.runs.pull import Pull
from webhook_server.stores.publication_store import Publication, PublicationState, pull_of


class Plans:
    """The check runs `cynthus/plan`, one a head; another one once the verdict changes."""

    def __init__(self, parts: Parts, outside: Outside) -> None:
        self._parts, self._outside = parts, outside
        self._store, self._now = parts.publications, parts.now
        self._sending = Sending(outside, parts)

    def show(self, item: Publication) -> None:
        """Bring the newest head's plan up to date; those of older heads stay as they were."""
        pull = self._parts.pulls.get(*pull_of(item.subject))
        if pull is None or pull.plan is None:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None))
            return
        wanted = plan_check(pull.plan, external_id=item.subject, now=self._now())
        if item.sent.get("sha") not in {None, wanted.head_sha}:
            item = _of_new_head(item)
        twins_at = look_at(item)
        if is_sent(item, wanted) and twins_at is not None and twins_at <= self._now():
            item = self._sending.without_twins(item, wanted, self._place(pull))
        if is_sent(item, wanted):
            done = replace(item, state=PublicationState.DONE, due_at=look_at(item), failures=0)
            self._store.save(done)
            return
        place = self._place(pull)
        noted = replace(item, sent={**item.sent, "sha": wanted.head_sha})
        ready = self._sending.turn(noted, wanted, place, urgent=True)
        if ready is not None:
            sent = self._sending.send(ready, wanted, place)
            due_at = self._now() if has_more(sent, wanted) else look_at(sent)
            self._store.save(replace(sent, state=PublicationState.DONE, due_at=due_at))

    def _place(self, pull: Pull) -> Place:
        return self._outside.places.find(pull.repository_id, pull.repository)


def _of_new_head(item: Publication) -> Publication:
    return replace(item, external_id=None, url=None, sent_digest=None, sent={}, failures=0)
