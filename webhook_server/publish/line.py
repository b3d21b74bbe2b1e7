"""Line up what wants to be written: each installation takes one write after the other.

Without a line everything that is due would be looked at again each second, until it is its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cynthus.frozen import replace
from webhook_server.github_api import GithubApi
from webhook_server.intents import Place
from webhook_server.stores.publication_store import Publication

# News of progress that would wait longer is no news any more when it comes.
_LONGEST_FOR_PROGRESS = timedelta(seconds=30)
_LINED = "lined"  # in `Publication.sent`: the moment that it was given


@dataclass
class Line:
    """Gives every write its moment; what is lost of it in a crash costs a look each."""

    api: GithubApi
    now: Callable[[], datetime]
    _ends: dict[int, datetime] = field(default_factory=dict)  # by installation
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, item: Publication, place: Place, *, urgent: bool) -> Publication | None:
        """Return the item as it is to be saved until its turn comes; None: it is its turn.

        `urgent` False: news of progress, which is put off rather than lined up.
        """
        now, ready_at = self.now(), self.api.write_ready_at(place)
        if self._is_its_turn(item, now, ready_at):
            return None
        if not urgent and self.api.is_scarce(place):
            return replace(item, due_at=now + _LONGEST_FOR_PROGRESS)
        key = place.installation_id or 0
        with self._lock:
            at = max(ready_at, self._ends.get(key, ready_at))
            if at <= now:
                return None
            if not urgent and at - now > _LONGEST_FOR_PROGRESS:
                return replace(item, due_at=at)
            self._ends[key] = at + self.api.write_spacing()
        return replace(item, due_at=at, sent={**item.sent, _LINED: at.isoformat()})

    def _is_its_turn(self, item: Publication, now: datetime, ready_at: datetime) -> bool:
        """Say whether the moment that it was given has come; one long past counts no more.

        The one before may have been late: what is left of its second is waited for at the door.
        """
        given = item.sent.get(_LINED)
        if given is None:
            return False
        gap = self.api.write_spacing()
        late = now - datetime.fromisoformat(given)
        return timedelta(0) <= late <= 2 * gap and ready_at - now <= gap


def left(item: Publication) -> Publication:
    """Return the item as one whose turn has come: the next time it lines up again."""
    return replace(item, sent={key: value for key, value in item.sent.items() if key != _LINED})
