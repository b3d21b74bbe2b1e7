"""Answer people in the sticky comment: each ask once, each stranger once."""

from __future__ import annotations

from datetime import datetime

from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from webhook_server.inbox.parts import InboxParts
from webhook_server.intents import Person, Place
from webhook_server.runs.pull import Pull, Reply, is_answered_enough, with_reply
from webhook_server.stores.publication_store import PublicationKind

UNCHECKED = (
    "it could not be checked with GitHub who may do this here, so nothing was done. Ask again."
)


class Replies:
    """Writes replies; safe to repeat by their keys."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts

    def give(self, place: Place, number: int, reply: Reply) -> None:
        """Add a reply to a pull request's, and let it be shown."""
        new = Pull(repository_id=place.id, number=number, repository=place.full_name)
        self._parts.pulls.change(
            new,
            lambda known: with_reply(replace(known, repository=place.full_name), reply),
            self._parts.now(),
            (PublicationKind.COMMENT,),
        )
        self._parts.bell.ring("publications")

    def given(self, place: Place, number: int, key: str) -> bool:
        """Say whether an ask was answered."""
        known = self._parts.pulls.get(place.id, number)
        return known is not None and any(reply.key == key for reply in known.replies)

    def was_told(self, place: Place, number: int, by: Person) -> bool:
        """Say whether somebody was told here already that they have not the right."""
        return self._parts.deliveries.was_handled(_stranger_key(place, number, by))

    def has_enough(self, place: Place, number: int, by: Person) -> bool:
        """Say whether somebody was answered as often lately as those get who may run nothing."""
        known = self._parts.pulls.get(place.id, number)
        return is_answered_enough(known, by.login, self._parts.now())

    def tell_stranger(self, place: Place, number: int, reply: Reply, by: Person) -> bool:
        """Tell somebody without the right so, once at each pull request; False: it was said."""
        if self.was_told(place, number, by):
            return False
        key = _stranger_key(place, number, by)
        # The reply first: a crash in between repeats it under the same key, which adds nothing.
        self.give(place, number, replace(reply, key=key, refused=True))
        proof = {"sender": by.login, "sender_id": by.id, "asked": reply.asked}
        return self._parts.deliveries.handle_once(
            key, proof, allowed=False, run_id=None, now=self._parts.now()
        )


def _stranger_key(place: Place, number: int, by: Person) -> str:
    return f"stranger/{place.id}/{number}/{by.id}"


def a_reply(key: str, at: datetime, by: Person, verb: Verb | None, written: str) -> Reply:
    """Return a reply to be filled in."""
    return Reply(key=key, at=at, by=by.login, verb=verb, asked=written, refused=False, text="")
