"""Check a press on a check run: which run of ours it shows, and who pressed with what right."""

from __future__ import annotations

import logging

from cynthus.errors import Refused, Transient
from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from webhook_server.acting import under
from webhook_server.github_api import RepositoryFacts
from webhook_server.inbox.asked import Standing
from webhook_server.inbox.authorities import of_standing
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.replies import UNCHECKED, Replies, a_reply
from webhook_server.inbox.rights_now import looked_up
from webhook_server.intents import Person, Place
from webhook_server.runs.model import Run
from webhook_server.runs.rights import refusal
from webhook_server.stores.publication_store import PublicationKind

log = logging.getLogger(__name__)

_BUTTON = "a button"


class Screen:
    """Our check runs, as people see and press them."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts, self._replies = parts, Replies(parts)

    def run_of(self, place: Place, check_run_id: int, run_id: str | None, sha: str) -> Run:
        """Return the run that this check run shows: by our own records, not by the payload.

        Raises: Skip.
        """
        run = self._parts.runs.get(run_id) if run_id else None
        shown = run and self._parts.publications.get(run.id, PublicationKind.CHECK_RUN)
        if run is None or not shown or shown.external_id != check_run_id:
            raise Skip("the check run is not one of ours")
        if run.key.repository_id != place.id or run.key.commit_sha != sha:
            raise Skip("the check run is of another commit")
        return run

    def standing(
        self, place: Place, facts: RepositoryFacts, sender: Person, number: int | None, key: str
    ) -> Standing:
        """Ask GitHub, now, what this person may do here; never believe a payload.

        `number`: the pull request at which it is said when that cannot be told.
        Raises: Skip then: nothing is tried again hours later.
        """
        at = self._parts.now()
        try:
            policy, role = looked_up(self._parts, place, sender)
        except (Transient, Refused) as error:
            if number is not None:
                reply = a_reply(f"{key}/unchecked/{at.isoformat()}", at, sender, None, _BUTTON)
                self._replies.give(place, number, replace(reply, text=UNCHECKED, refused=True))
            raise Skip(f"could not be checked: {error}") from error
        return Standing(
            place=place, facts=facts, policy=policy, by=sender, role=role, at=at, key=key
        )

    def need(self, by: Standing, verb: Verb, number: int | None) -> None:
        """Let only those go on who may; others are told once, where there is a place for it.

        Raises: Skip.
        """
        why = refusal(by.policy.policy, verb, by.by.login, by.role)
        if why is None:
            return
        log.warning("not permitted sender=%s role=%s verb=%s", by.by.login, by.role, verb)
        self.refused(by, verb.value, why)
        if number is not None:
            reply = a_reply(by.key, by.at, by.by, verb, _BUTTON)
            self._replies.tell_stranger(by.place, number, replace(reply, text=why), by.by)
        # Not noted as handled: the same button may be pressed by somebody who may.
        raise Skip(f"{by.by.login} has the role {by.role}: {why}")

    def refused(self, by: Standing, what: str, why: str) -> None:
        """Keep in the trail what was not done for whom, with the role that was found."""
        with under(of_standing(by, self._parts.now())):
            self._parts.deliveries.note_refusal(by.place.id, by.key, (what, why))

    def handled(self, key: str, by: Standing, run: Run) -> None:
        """Keep the proof of who was let do what, by which role, at which commit."""
        proof = {"sender": by.by.login, "sender_id": by.by.id, "repository": by.place.id}
        proof |= {"role": by.role.value, "sha": run.key.commit_sha}
        self._parts.deliveries.handle_once(
            key, proof, allowed=True, run_id=run.id, now=self._parts.now()
        )
