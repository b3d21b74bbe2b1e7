"""Show a commit's policy file as a check run, where the commit changes it."""

from __future__ import annotations

from dataclasses import replace

from cynthus.repository_policy import POLICY_PATH
from webhook_server.github_api import NotFound
from webhook_server.intents import Place
from webhook_server.policies import policy_at
from webhook_server.publish.creating import Creating
from webhook_server.publish.parts import Outside, Parts
from webhook_server.runs.model import PolicySeen
from webhook_server.runs.policy_check import PolicyShown, policy_check
from webhook_server.runs.report import CheckRun
from webhook_server.stores.publication_store import Publication, PublicationState, commit_of


class PolicyChecks:
    """The check runs `cynthus/policy`, one a commit: a commit's file never changes."""

    def __init__(self, parts: Parts, outside: Outside) -> None:
        self._outside = outside
        self._store, self._now = parts.publications, parts.now
        self._creating = Creating(parts.publications, parts.now)

    def show(self, item: Publication) -> None:
        """Make the commit's check run, unless its file is the default branch's own."""
        place = self._outside.places.find(item.repository_id, "")
        shown = self._shown(item, place)
        if shown is None:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None, failures=0))
            return
        ready_at = self._outside.api.write_ready_at(place)
        if ready_at > self._now():  # others of this installation are first; no sleeping here
            self._store.save(replace(item, due_at=ready_at))
            return
        if item.external_id is None and not self._creating.begin(item):
            return
        self._send(item, place, policy_check(shown, external_id=item.subject, now=self._now()))

    def _shown(self, item: Publication, place: Place) -> PolicyShown | None:
        """Return what to show of the commit; None: it has not changed the file."""
        api, sha = self._outside.api, commit_of(item.subject)
        if not item.sent.get("touched"):
            try:  # most repositories have none: one request says so
                api.file(place, POLICY_PATH, sha)
            except NotFound:
                return None
        seen = policy_at(api, place, sha, self._now())
        standing = policy_at(api, place, place.default_branch, self._now())
        same = _told(seen) == _told(standing)
        if same and not item.sent.get("touched"):
            return None
        return PolicyShown(sha=sha, seen=seen, counts=same)

    def _send(self, item: Publication, place: Place, wanted: CheckRun) -> None:
        """Create the check run, or add to it the next batch of annotations."""
        api, shown = self._outside.api, int(item.sent.get("annotations", 0))
        if item.external_id is None:
            found = (
                api.find_check_run(place, wanted.head_sha, wanted.external_id)
                if self._creating.in_doubt(item)
                else None
            )
            if found is None:
                body = {"head_sha": wanted.head_sha, **wanted.body(0)}
                found = api.create_check_run(place, body)
            item = replace(item, external_id=found.id, url=found.url)
            shown = api.annotations_of(place, found.id) if wanted.annotations else 0
        else:
            if item.sent.get("doubt"):  # an update whose answer was lost may have added its own
                shown = api.annotations_of(place, item.external_id)
            if shown < len(wanted.annotations):
                api.update_check_run(place, item.external_id, wanted.body(shown))
                shown = api.annotations_of(place, item.external_id)
        self._remember(item, wanted, shown)

    def _remember(self, item: Publication, wanted: CheckRun, shown: int) -> None:
        more = shown < len(wanted.annotations)
        sent = {**item.sent, "annotations": shown, "doubt": False}
        self._store.save(
            replace(
                item,
                sent=sent,
                sent_digest=wanted.digest,
                sent_at=self._now(),
                state=PublicationState.PENDING if more else PublicationState.DONE,
                note=None,
                failures=0,
                due_at=self._now() if more else None,
            )
        )


def _told(seen: PolicySeen) -> tuple[object, ...]:
    return seen.policy, seen.found, seen.faults
