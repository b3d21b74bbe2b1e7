"""Take note that somebody took a release of ours away: nothing stands on it any more."""

from __future__ import annotations

from webhook_server.github_api import NotFound, Releases
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.intents import Place, ReleaseChanged


class ReleaseChanges:
    """What the webhook `release` means."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts

    def take(self, intent: ReleaseChanged) -> str:
        """Withdraw what is gone on GitHub; safe to repeat.

        Raises: Skip when it was none of ours, or is there again; NotFound, Transient.
        """
        known = self._parts.publications.release_of(intent.place.id, intent.release_id)
        if known is None:  # before GitHub is asked: most releases are not ours
            raise Skip("no release of ours")
        place, _ = confirmed(self._parts, intent.place)
        if self._is_public(place, intent.release_id):
            raise Skip("the release is public by now")
        who = f" by {intent.sender.login}" if intent.sender else ""
        note = f"its release was {intent.what}{who} on GitHub"
        self._parts.publications.withdraw(known, note, self._parts.now())
        self._parts.bell.ring("runs")
        return f"run {known} has no release any more"

    def _is_public(self, place: Place, release_id: int) -> bool:
        try:
            return not Releases(self._parts.api, place).get(release_id).draft
        except NotFound:
            return False
