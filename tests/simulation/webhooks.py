"""Deliver GitHub's webhooks as badly as the internet does.

GitHub delivers once, gives up after ten seconds, and never tries again by itself; whoever
caught a signed body may send it again, under any id and any event name: neither is signed.
https://docs.github.com/webhooks/using-webhooks/handling-failed-webhook-deliveries
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from tests.simulation.github import Github, Sent
from tests.simulation.weather import Weather

SECRET = b"a webhook secret of more than 24 bytes"
NO_ANSWER = 0  # GitHub's log has no status then
_LATE = timedelta(minutes=3)  # deliveries overtake one another by as much
_AGAIN = timedelta(minutes=30)
_NAMES = ("push", "pull_request", "issue_comment", "check_run", "repository", "release")


class Post(Protocol):
    """The way to whichever replica the balancer chooses."""

    def __call__(self, sent: Sent, signature: str) -> int:
        """Return the status that was answered; `NO_ANSWER`."""


@dataclass
class Webhooks:
    """GitHub's half of delivering. `later` does something after so many virtual seconds."""

    github: Github
    post: Post
    later: Callable[[float, Callable[[], None]], None]
    chance: random.Random
    weather: Weather
    healed: bool = False

    def emit(self, event: str, payload: dict[str, Any]) -> None:
        """Deliver one event, the weather permitting."""
        body = json.dumps(payload, separators=(",", ":")).encode()
        ours = self._sent(event, body)
        if not self.healed and self.chance.random() < self.weather.lost:
            self.later(10.0, lambda: self._keep(ours, NO_ANSWER))
        else:
            for delay_s in self._times():
                self.later(delay_s, lambda: self._deliver(ours))
        for delay_s, theirs in self._forged(ours):
            self.later(delay_s, lambda theirs=theirs: self._deliver(theirs))  # type: ignore[misc]

    def redeliver(self, id_: int) -> None:
        """Deliver a kept one again, under the same guid, as GitHub does when it is asked to."""
        known = next(sent for sent in self.github.deliveries if sent.id == id_)
        again = replace(known, id=self.github.new_id())
        self.later(1.0 + self.chance.random() * 5, lambda: self._deliver(again))

    def _times(self) -> Iterable[float]:
        """Yield after how many seconds GitHub delivers, or a proxy before us repeats it."""
        bad, draw = self.weather, self.chance.random
        late = not self.healed and draw() < bad.late
        first_s = draw() * (_LATE.total_seconds() if late else 1.0)
        yield first_s
        if draw() < bad.twice:
            yield first_s + draw() * _AGAIN.total_seconds()
        if draw() < bad.crowd:
            yield from (first_s for _ in range(19))

    def _forged(self, ours: Sent) -> Iterable[tuple[float, Sent]]:
        """Yield what somebody sends who caught the body with its signature."""
        bad, draw = self.weather, self.chance.random
        if draw() < bad.replayed:
            yield (
                draw() * _AGAIN.total_seconds(),
                replace(self._sent(ours.event, ours.body), genuine=False),
            )
        if draw() < bad.misnamed:
            name = self.chance.choice(_NAMES)
            yield draw() * 60, replace(self._sent(name, ours.body), genuine=False)

    def _sent(self, event: str, body: bytes) -> Sent:
        guid = f"{self.chance.getrandbits(128):032x}"
        return Sent(
            id=self.github.new_id(),
            guid=guid,
            event=event,
            body=body,
            delivered_at=self.github.now(),
            status=NO_ANSWER,
        )

    def _deliver(self, sent: Sent) -> None:
        self._keep(sent, self.post(sent, signature_of(sent.body)))

    def _keep(self, sent: Sent, status: int) -> None:
        kept = replace(sent, delivered_at=self.github.now(), status=status)
        self.github.deliveries.append(kept)


def signature_of(body: bytes) -> str:
    """Return what GitHub writes into X-Hub-Signature-256."""
    return "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
