"""Show a commit's policy file as a check run, where the commit changes it."""

from __future__ import annotations

from cynthus.frozen import replace
from cynthus.repository_policy import POLICY_PATH
from webhook_server.github_api import NotFound
from webhook_server.intents import Place
from webhook_server.policies import policy_at
from webhook_server.publish.parts import Outside, Parts
from webhook_server.publish.sending import Sending, has_more, is_sent
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.policy_check import PolicyShown, policy_check
from webhook_server.stores.publication_store import Publication, PublicationState, commit_of


class PolicyChecks:
    """The check runs `cynthus/policy`, one a commit whose file is another than the one before."""

    def __init__(self, parts: Parts, outside: Outside) -> None:
        self._outside = outside
        self._store, self._now = parts.publications, parts.now
        self._sending = Sending(outside, parts)

    def show(self, item: Publication) -> None:
        """Show the commit's file, unless it is the default branch's own and was not touched."""
        place = self._outside.places.find(item.repository_id, "")
        shown = self._shown(item, place)
        if shown is None:
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None, failures=0))
            return
        wanted = policy_check(shown, external_id=item.subject, now=self._now())
        if is_sent(item, wanted):
            self._store.save(replace(item, state=PublicationState.DONE, due_at=None, failures=0))
            return
        ready = self._sending.turn(item, wanted, place, urgent=True)
        if ready is not None:
            sent = self._sending.send(ready, wanted, place)
            more = has_more(sent, wanted)
            state = PublicationState.PENDING if more else PublicationState.DONE
            self._store.save(replace(sent, state=state, due_at=self._now() if more else None))

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


def _told(seen: PolicySeen) -> tuple[object, ...]:
    return seen.policy, seen.found, seen.faults
