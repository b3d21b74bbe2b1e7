"""Foretell a run's end from the progress that it tells: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from webhook_server.runs.feed_facts import Feed, Headway
from webhook_server.runs.limits import cost, price
from webhook_server.runs.model import Run, State
from webhook_server.runs.terms import ends_by, usd_per_hour

# Less says nothing: the first steps compile, fill caches, and are slower than all others.
_LEAST_SHARE = 0.05
_LEAST_TIME = timedelta(minutes=1)
_LONGEST = timedelta(days=366)  # beyond that it is no forecast


@dataclass(frozen=True, kw_only=True)
class Left:
    """How much longer a run goes on."""

    time: timedelta
    at_most: bool  # its limits end it then; False: at this speed it is done then


def time_left(run: Run, feed: Feed, now: datetime) -> Left | None:
    """Return how long a running command goes on; None: nothing is known of it."""
    if run.state is not State.RUNNING:
        return None
    last = ends_by(run, now)
    limit = None if last is None else Left(time=_positive(last - now), at_most=True)
    rest = remaining(feed.headway)
    if feed.headway is None or rest is None:
        return limit
    done = Left(time=_positive(feed.headway.newest_at + rest - now), at_most=False)
    return limit if limit is not None and limit.time < done.time else done


def remaining(headway: Headway | None) -> timedelta | None:
    """Return how long the rest takes, counted from the newest word; None: too early to say."""
    if headway is None or headway.newest >= 1:
        return None
    took, share = headway.newest_at - headway.first_at, headway.newest - headway.first
    if took <= _LEAST_TIME or share <= _LEAST_SHARE:
        return None
    rest = took * ((1 - headway.newest) / share)
    return rest if rest <= _LONGEST else None


def expected_usd(run: Run, feed: Feed) -> Decimal | None:
    """Return what the run will have cost in the end, at this speed; None: too early to say.

    Reckoned at the newest word on its progress, so that the clock alone changes nothing.
    """
    rest = remaining(feed.headway)
    if run.state is not State.RUNNING or feed.headway is None or rest is None:
        return None
    return cost(run, feed.headway.newest_at) + price(usd_per_hour(run), rest)


def _positive(time: timedelta) -> timedelta:
    return max(time, timedelta(0))
