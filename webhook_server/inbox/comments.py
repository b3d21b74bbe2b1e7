"""Carry out what people ask in comments of pull requests, each line once, if they may."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from cynthus.errors import CynthusError, Refused, Transient
from cynthus.frozen import replace
from cynthus.repository_policy import Role, Verb
from webhook_server.acting import under
from webhook_server.github_api import PullFacts, RepositoryFacts
from webhook_server.inbox.asked import Asked, Declined, Done
from webhook_server.inbox.authorities import of_standing
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.pulls import noted, open_pull
from webhook_server.inbox.replies import UNCHECKED, Replies, a_reply
from webhook_server.inbox.rights_now import looked_up
from webhook_server.inbox.verbs import Verbs
from webhook_server.intents import Commented, Place
from webhook_server.runs.asks import Line, Misread
from webhook_server.runs.comment_reader import asks_of
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.pull import Pull
from webhook_server.runs.rights import refusal
from webhook_server.stores.publication_store import subject_of

log = logging.getLogger(__name__)

#: An ask that could not be carried out for so long is not carried out any more: whoever asked has
#: looked away, and a run that starts by itself hours later is one that nobody wanted.
STALE = timedelta(minutes=10)
_TOO_LATE = "GitHub could not be asked for {minutes} minutes, so nothing was done. Ask again."
_SEEN, _REFUSED = "eyes", "confused"
_NO_WAIT = timedelta(seconds=2)  # an emoji may wait so long for its turn to be written


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Where a comment stands, as GitHub says now."""

    intent: Commented
    place: Place
    facts: RepositoryFacts
    pull: PullFacts
    known: Pull
    policy: PolicySeen
    role: Role

    def asked(self, line: Line) -> Asked:
        return Asked(
            place=self.place,
            facts=self.facts,
            pull=self.pull,
            known=self.known,
            policy=self.policy,
            by=self.intent.sender,
            role=self.role,
            at=self.intent.created_at,
            key=line_key(self.intent, line),
        )


class Comments:
    """The asks in comments."""

    def __init__(self, parts: InboxParts, verbs: Verbs) -> None:
        self._parts, self._verbs, self._replies = parts, verbs, Replies(parts)

    def commented(self, intent: Commented) -> str:
        """Carry out a comment's asks, answer each, and acknowledge the comment by an emoji.

        Safe to repeat: runs, wishes and replies have the comment's id in their keys. Everything is
        looked up now: the comment, the pull request, the policy, the person's role.
        Raises: Skip; Transient while the comment is young enough to be carried out later.
        """
        if self._parts.deliveries.was_handled(intent.key):
            raise Skip("was carried out before")
        lines = asks_of(intent.body)
        if not lines:
            raise Skip("nothing in the comment is an ask")
        try:
            return self._carry_out(intent, lines)
        except Transient as error:
            late = self._parts.now() - intent.created_at
            if late < STALE:
                raise
            minutes = late // timedelta(minutes=1)
            self._say(intent, intent.place, lines[0], _TOO_LATE.format(minutes=minutes))
            self._note(intent, {"note": str(error)}, ())
            return "came too late"

    def _carry_out(self, intent: Commented, lines: Sequence[Line]) -> str:
        self._spare(intent, lines)
        place, facts = confirmed(self._parts, intent.place)
        pull = self._still_asked(intent, place)
        known = noted(self._parts, place, pull, None)
        try:
            policy, role = looked_up(self._parts, place, intent.sender)
        except (Transient, Refused) as error:
            # Not tried again later: what nobody could check must not run when nobody looks.
            self._say(intent, place, lines[0], UNCHECKED)
            self._note(intent, {"sha": pull.sha, "note": str(error)}, ())
            self._react(place, intent, _REFUSED)
            return f"could not be checked: {error}"
        scene = _Scene(
            intent=intent,
            place=place,
            facts=facts,
            pull=pull,
            known=known,
            policy=policy,
            role=role,
        )
        return self._answer(scene, lines)

    def _spare(self, intent: Commented, lines: Sequence[Line]) -> None:
        """Let who has had enough answers here cost one request a comment, whatever is in it.

        Only what is refused or not answered in any case ends here. Raises: Skip.
        """
        where = intent.place, intent.number, intent.sender
        told, enough = self._replies.was_told(*where), self._replies.has_enough(*where)
        if intent.place.installation_id is None or not (told or enough):
            return
        try:
            policy, role = looked_up(self._parts, intent.place, intent.sender)
        except (Transient, Refused):
            return  # said where all else is that cannot be checked
        login = intent.sender.login
        if refusal(policy.policy, Verb.RUN, login, role) is None:
            return
        if enough:
            raise Skip(f"{login} was answered often enough for an hour")
        asks = [line.ask for line in lines if not isinstance(line.ask, Misread)]
        if all(refusal(policy.policy, ask.verb, login, role) for ask in asks):
            raise Skip(f"{login} was told of the missing right before")

    def _still_asked(self, intent: Commented, place: Place) -> PullFacts:
        comment = self._parts.api.comment(place, intent.comment_id)
        if comment is None:
            raise Skip("the comment is gone")
        if (comment.body, comment.author_id) != (intent.body, intent.sender.id):
            raise Skip("the comment was changed since")
        return open_pull(self._parts, place, intent.number)

    # ── each line ───────────────────────────────────────────────────────────────────────────────

    def _answer(self, scene: _Scene, lines: Sequence[Line]) -> str:
        admitted: list[Line] = []
        told = False  # whether anything was said that an emoji should announce
        done: list[str] = []
        where = scene.place, scene.intent.number, scene.intent.sender
        for line in lines:
            if not self._may_run(scene) and self._replies.has_enough(*where):
                break
            with under(of_standing(scene.asked(line), self._parts.now())):
                refused = self._refusal(scene, line)
                if refused is not None:
                    told = self._tell_stranger(scene, line, refused) or told
                    continue
                if isinstance(line.ask, Misread) and not self._may_run(scene):
                    continue
                done += self._once(scene, line)
            admitted.append(line)
        proof = {"sha": scene.pull.sha, "role": scene.role.value}
        self._note(scene.intent, proof | {"asked": [one.written for one in admitted]}, done)
        if admitted or told:
            self._react(scene.place, scene.intent, _SEEN if admitted else _REFUSED)
        return f"{len(admitted)} of {len(lines)} asks admitted"

    def _refusal(self, scene: _Scene, line: Line) -> str | None:
        """Return why the person may not ask for this; what cannot be read needs no right."""
        if isinstance(line.ask, Misread):
            return None
        return refusal(scene.policy.policy, line.ask.verb, scene.intent.sender.login, scene.role)

    def _may_run(self, scene: _Scene) -> bool:
        login = scene.intent.sender.login
        return refusal(scene.policy.policy, Verb.RUN, login, scene.role) is None

    def _tell_stranger(self, scene: _Scene, line: Line, why: str) -> bool:
        intent = scene.intent
        self._keep_refusal(scene, line, why)
        reply = a_reply(
            line_key(intent, line), intent.created_at, intent.sender, line.ask.verb, line.written
        )
        return self._replies.tell_stranger(
            scene.place, intent.number, replace(reply, text=why), intent.sender
        )

    def _once(self, scene: _Scene, line: Line) -> tuple[str, ...]:
        """Carry out a line and answer it; return the ids of its runs."""
        intent, key = scene.intent, line_key(scene.intent, line)
        if self._replies.given(scene.place, intent.number, key):
            return ()  # a crash came after its answer
        reply = a_reply(key, intent.created_at, intent.sender, line.ask.verb, line.written)
        try:
            done = self._verdict(scene, line)
            reply = replace(reply, text=done.text, run_ids=done.run_ids)
        except Declined as declined:
            reply = replace(reply, text=str(declined), refused=True)
            self._keep_refusal(scene, line, str(declined))
        self._replies.give(scene.place, intent.number, reply)
        return reply.run_ids

    def _keep_refusal(self, scene: _Scene, line: Line, why: str) -> None:
        subject = subject_of(scene.place.id, scene.intent.number)
        key = line_key(scene.intent, line)
        self._parts.deliveries.note_refusal(scene.place.id, key, (subject, why))

    def _verdict(self, scene: _Scene, line: Line) -> Done:
        if isinstance(line.ask, Misread):
            raise Declined(line.ask.text)
        return self._verbs.carry_out(scene.asked(line), line.ask)

    # ── what is left of it ──────────────────────────────────────────────────────────────────────

    def _say(self, intent: Commented, place: Place, line: Line, text: str) -> None:
        reply = a_reply(
            line_key(intent, line), intent.created_at, intent.sender, line.ask.verb, line.written
        )
        self._replies.give(place, intent.number, replace(reply, text=text, refused=True))

    def _note(self, intent: Commented, proof: dict[str, object], run_ids: Sequence[str]) -> None:
        """Keep the proof of who was let do what, by which role, at which commit."""
        sender = {"sender": intent.sender.login, "sender_id": intent.sender.id}
        self._parts.deliveries.handle_once(
            intent.key,
            sender | {"created_at": intent.created_at.isoformat()} | proof,
            allowed=bool(proof.get("asked")),
            run_id=run_ids[0] if run_ids else None,
            now=self._parts.now(),
        )

    def _react(self, place: Place, intent: Commented, emoji: str) -> None:
        """Acknowledge the comment; whether that works matters to nothing else."""
        now = self._parts.now()
        try:
            if self._parts.api.write_ready_at(place) - now <= _NO_WAIT:
                self._parts.api.react(place, intent.comment_id, emoji)
        except CynthusError as error:
            log.info("not acknowledged comment=%s note=%s", intent.comment_id, error)


def line_key(intent: Commented, line: Line) -> str:
    """Name a line of a comment: comment ids are unique in all of GitHub."""
    return f"comment/{intent.comment_id}/{line.number}"
