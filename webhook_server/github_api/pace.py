"""Keep one installation's pace, in this process or in all replicas together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from cynthus.errors import Transient
from webhook_server.runs import github_pace as rules
from webhook_server.runs.github_pace import PaceState

T = TypeVar("T")
Change = Callable[[PaceState], tuple[PaceState, T]]


class PaceKeeper(Protocol):
    """Where paces are kept; changes of one installation follow one another."""

    def change(self, installation_id: int, work: Change[T]) -> T:
        """Read the state, let `work` change it, and return what `work` says beside it."""

    def state(self, installation_id: int) -> PaceState:
        """Return the state."""


@dataclass
class OwnPaces:
    """Paces of a server that is the only one: in memory."""

    _states: dict[int, PaceState] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, installation_id: int, work: Change[T]) -> T:
        """Change one state."""
        with self._lock:
            new, said = work(self._states.get(installation_id, PaceState()))
            self._states[installation_id] = new
            return said

    def state(self, installation_id: int) -> PaceState:
        """Return one state."""
        with self._lock:
            return self._states.get(installation_id, PaceState())


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What GitHub said last of an installation's hour."""

    limit: int
    remaining: int
    resets_at: datetime


class Pace:
    """What one installation may still send: spaced writes, pauses, what GitHub says is left."""

    def __init__(
        self,
        installation_id: int,
        keeper: PaceKeeper,
        *,
        now: Callable[[], datetime],
        spacing: timedelta,
    ) -> None:
        self._id, self._keeper, self._now, self.spacing = installation_id, keeper, now, spacing
        self.allowance: Allowance | None = None

    def write_ready_at(self) -> datetime:
        """Return the earliest moment of the next write."""
        state = self._keeper.state(self._id)
        return max(state.write_at, state.paused_until)

    def state(self) -> PaceState:
        """Return what is kept, for /metrics."""
        return self._keeper.state(self._id)

    def reserve(self, *, write: bool, content: bool = False) -> float:
        """Take the next place in line; return the seconds until it comes.

        Raises: Transient while GitHub wants silence, or when the line is too long to wait in.
        """
        now = self._now()
        turn = self._keeper.change(
            self._id,
            lambda state: rules.reserve(
                state, now, write=write, content=content, spacing=self.spacing
            ),
        )
        if turn.refused:
            raise Transient(turn.why, retry_at=turn.at)
        return max((turn.at - now).total_seconds(), 0.0)

    def limited(self, headers: Mapping[str, str]) -> datetime:
        """Note that GitHub refused for its limits; return when it may be asked again."""
        now = self._now()
        return self._keeper.change(self._id, lambda state: rules.limited(state, headers, now))

    def troubled(self) -> datetime:
        """Note that GitHub did not answer well; return when it may be asked again."""
        now = self._now()
        return self._keeper.change(self._id, lambda state: rules.troubled(state, now))

    def answered(self, headers: Mapping[str, str]) -> None:
        """Note an answer, with what it says is left of the hour."""
        now = self._now()
        self._note(headers)
        if headers.get("x-ratelimit-remaining") != "0":
            state = self._keeper.state(self._id)
            if state.strikes == 0 and state.troubles == 0:
                return  # the usual case changes nothing
        self._keeper.change(self._id, lambda s: (rules.answered(s, headers, now), None))

    def _note(self, headers: Mapping[str, str]) -> None:
        names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
        found = [headers.get(name, "") for name in names]
        if all(text.isdigit() and len(text) < 12 for text in found):  # noqa: PLR2004 - seconds since 1970 have ten digits
            limit, remaining, reset = (int(text) for text in found)
            self.allowance = Allowance(
                limit=limit, remaining=remaining, resets_at=datetime.fromtimestamp(reset, UTC)
            )

    def is_scarce(self) -> bool:
        """Say whether what is left of the hour is to be kept for what matters most."""
        found = self.allowance
        if found is None or found.resets_at <= self._now():
            return False
        # A fifth: with 5,000 an hour that answers 200 asks of five requests each.
        return found.remaining * 5 < found.limit
