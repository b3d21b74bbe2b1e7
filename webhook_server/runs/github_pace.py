"""Say when one installation may ask GitHub again, and when it may write: pure.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cynthus.frozen import replace

# "wait at least one second between each request" that writes: best practices, above.
WRITE_SPACING = timedelta(seconds=1)
# GitHub takes 80 requests a minute and 500 an hour that notify people. A little less, because its
# windows begin and end by another clock than ours.
CONTENT_A_MINUTE, CONTENT_AN_HOUR = 75, 480
# Without any hint: "wait for at least one minute", then longer and longer; best practices, above.
_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
_TOO_MUCH_WAITING = timedelta(hours=2)  # GitHub's window is one hour: more is a broken header
# A single bad answer may be that of one request; three in a row are an outage. Then one request
# at a time finds out whether it is over, and at most two minutes after that all go on.
_OUTAGE_AFTER = 3
_FIRST_PROBE, _LONGEST_PROBE = timedelta(seconds=10), timedelta(minutes=2)
# Whoever would wait longer comes again instead of holding a thread.
PATIENCE = timedelta(seconds=5)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class PaceState:
    """What one installation has sent, as far as it matters for the next request."""

    write_at: datetime = _LONG_AGO  # the earliest moment of the next write
    paused_until: datetime = _LONG_AGO
    strikes: int = 0  # refusals for a limit, in a row
    troubles: int = 0  # requests in a row that were not answered, or with a fault of GitHub's
    content: tuple[datetime, ...] = ()  # writes of the last hour that notify people, oldest first


@dataclass(frozen=True, kw_only=True)
class Turn:
    """When a request may go: at `at`, or, `refused`, not before it: come again then."""

    at: datetime
    refused: bool = False
    why: str = ""


def reserve(
    state: PaceState, now: datetime, *, write: bool, content: bool, spacing: timedelta
) -> tuple[PaceState, Turn]:
    """Take the next place in line for a request; a refused one takes none."""
    if now < state.paused_until:
        return state, Turn(at=state.paused_until, refused=True, why="GitHub asked us to wait.")
    if not write:
        return state, Turn(at=now)
    at = max(now, state.write_at)
    recent = _recent(state.content, now)
    if content:
        at = max(at, _content_at(recent))
    if at - now > PATIENCE:
        return state, Turn(at=at, refused=True, why="GitHub takes no more of these just now.")
    if content:
        recent = (*recent, at)
    return replace(state, write_at=at + spacing, content=recent), Turn(at=at)


def _recent(content: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in content if at > now - timedelta(hours=1))


def _content_at(recent: tuple[datetime, ...]) -> datetime:
    """Return from when on one more fits both windows."""
    at = _LONG_AGO
    for most, window in (
        (CONTENT_A_MINUTE, timedelta(minutes=1)),
        (CONTENT_AN_HOUR, timedelta(hours=1)),
    ):
        if len(recent) >= most:
            at = max(at, recent[-most] + window)
    return at


def limited(
    state: PaceState, headers: Mapping[str, str], now: datetime
) -> tuple[PaceState, datetime]:
    """Note that GitHub refused for its limits; return when it may be asked again."""
    growing = min(_PAUSE * 2**state.strikes, _LONGEST_PAUSE)
    until = max(state.paused_until, _told(headers, now) or now + growing)
    strikes = min(state.strikes + 1, 10)
    return replace(state, paused_until=until, strikes=strikes, troubles=0), until


def answered(state: PaceState, headers: Mapping[str, str], now: datetime) -> PaceState:
    """Note an answer; stop before the limit when it says that nothing is left."""
    state = replace(state, strikes=0, troubles=0)
    until = _told(headers, now) if headers.get("x-ratelimit-remaining") == "0" else None
    return state if until is None else replace(state, paused_until=max(state.paused_until, until))


def troubled(state: PaceState, now: datetime) -> tuple[PaceState, datetime]:
    """Note that GitHub did not answer, or not well; return when it may be asked again."""
    troubles = min(state.troubles + 1, 30)
    if troubles < _OUTAGE_AFTER:
        return replace(state, troubles=troubles), now + _FIRST_PROBE
    probe = min(_FIRST_PROBE * 2 ** (troubles - _OUTAGE_AFTER), _LONGEST_PROBE)
    until = max(state.paused_until, now + probe)
    return replace(state, troubles=troubles, paused_until=until), until


def _told(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """Read when GitHub wants to be asked again: `retry-after` first, then the window's end."""
    after = headers.get("retry-after", "")
    if after.isdigit():
        return now + min(timedelta(seconds=int(after[:6])), _TOO_MUCH_WAITING)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        until = datetime.fromtimestamp(int(reset[:11]), UTC) + timedelta(seconds=1)
        return min(max(until, now + timedelta(seconds=1)), now + _TOO_MUCH_WAITING)
    return None
