"""Ask a repository's workflows for the image of a run that no push and no pull request builds.

A dispatch runs the workflow files of the default branch, which no stranger can change:
https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows#repository_dispatch
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from cynthus.errors import Refused
from cynthus.frozen import replace
from webhook_server.github_api import NotFound
from webhook_server.publish.failures import NOT_FOUND_TRIES, Failures
from webhook_server.publish.parts import Outside, Parts
from webhook_server.runs.builds import (
    EVENT_TYPE,
    is_behind,
    lender,
    payload,
    refused_text,
    shared_failure,
)
from webhook_server.runs.model import Run
from webhook_server.stores.publication_store import Publication, PublicationState

log = logging.getLogger(__name__)

# A dispatched workflow begins within seconds, and a build from what is there takes half a minute:
# who heard nothing for two minutes after a lost answer asks again instead of waiting in vain.
_DOUBT = timedelta(minutes=2)
_BEHIND = timedelta(seconds=2)  # one read a look, while others' build takes half a minute or more
_LONGEST_DOUBT = timedelta(minutes=16)  # GitHub is away then: an hour's run is asked for 5 times


class Builds:
    """The builds that runs wait for."""

    def __init__(self, parts: Parts, outside: Outside, failures: Failures) -> None:
        self._parts, self._outside, self._failures = parts, outside, failures
        self._store, self._now = parts.publications, parts.now
        self._begun: set[str] = set()  # tries that are saved, and not yet made by this process

    def show(self, item: Publication) -> None:
        """Have one run's build asked for.

        A try is saved before it is made. Its answer may be lost, by a crash too: then it is given
        time before the next. Should both start the workflow, the second finds the first one's image
        in the registry, and its request is refused, since nothing waits for it any more.
        """
        run = self._parts.runs.get(item.subject)
        if run is None or not self._parts.runs.waits(run.key):
            self._begun.discard(item.subject)
            self._end(item)  # the image is there, or the run has ended
        elif item.subject in self._begun:
            self._begun.discard(item.subject)
            self._ask(item, run)
        elif not self._shares(item, run):
            self._begin(item, run)

    def _shares(self, item: Publication, run: Run) -> bool:
        """Take what another run of this commit has, or wait for it: a sweep is built once."""
        runs = self._parts.runs
        others = runs.of_commit(run.key.repository_id, run.key.commit_sha)
        if (found := lender(run, others)) is not None:
            runs.lend_image(run.id, found, self._now())
        elif (failure := shared_failure(run, others)) is not None:
            runs.refuse_build(run.id, failure, self._now())
        elif is_behind(run, others):
            self._store.save(replace(item, due_at=self._now() + _BEHIND))
            return True
        else:
            return False
        self._parts.bell.ring("runs")
        self._end(item)
        return True

    def _begin(self, item: Publication, run: Run) -> None:
        place = self._outside.places.find(run.key.repository_id, run.repository)
        quiet_until = _quiet_until(item)
        if quiet_until > self._now():  # a try may be under way
            self._store.save(replace(item, due_at=quiet_until))
            return
        waiting = self._outside.line.wait(item, place, urgent=True)
        if waiting is not None:  # others of this installation are first
            self._store.save(waiting)
            return
        tries = int(item.sent.get("tries", 0))
        until = self._now() + min(_DOUBT * 2**tries, _LONGEST_DOUBT)
        sent = {"tries": tries + 1, "quiet_until": until.isoformat()}
        if self._store.save(replace(item, sent=sent, due_at=self._now())):
            self._begun.add(item.subject)

    def _ask(self, item: Publication, run: Run) -> None:
        place = self._outside.places.find(run.key.repository_id, run.repository)
        try:
            self._outside.api.dispatch(place, EVENT_TYPE, payload(run))
        except NotFound as error:
            if item.failures + 1 < NOT_FOUND_TRIES:
                raise
            self._refuse(item, str(error))
        except Refused as error:
            self._refuse(item, str(error))
        else:
            log.info("build asked for run=%s repository=%s", run.id, run.repository)
            self._end(item)

    def _refuse(self, item: Publication, said: str) -> None:
        """End the run too: nobody will build its image, so that nobody shall wait for it."""
        self._parts.runs.refuse_build(item.subject, refused_text(said), self._now())
        self._failures.refuse(item, said)  # rings for the run

    def _end(self, item: Publication) -> None:
        self._store.save(replace(item, state=PublicationState.DONE, due_at=None, failures=0))


def _quiet_until(item: Publication) -> datetime:
    """Return until when the last try may still show its effect."""
    text = item.sent.get("quiet_until")
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(text))
