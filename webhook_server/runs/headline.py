"""Say in one line where a run stands: the title of its check run: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.money import of_limit
from webhook_server.runs import hostile
from webhook_server.runs.attempts import span
from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.forecast import Left, time_left
from webhook_server.runs.lending import Offer
from webhook_server.runs.limits import cost
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.runs.terms import is_held, most_usd, started_at

TITLE_LIMIT = 200  # signs: more is cut by every list of checks
_REASON_LIMIT = 100
_WORD_LIMIT = 24  # of a name that a user gave: a phase, a metric
COUNTERS = ("epoch", "epochs")  # metrics that count how far it is: no result
_HEADLINES = 2  # metrics: a title is no table
_LIVE_MINUTES = 90  # up to here minutes are told
_LIVE_HOURS = 48


@dataclass(frozen=True, kw_only=True)
class Word:
    """One part of the line."""

    text: str
    ticks: bool = False  # the clock alone changes it


def title(run: Run, feed: Feed, now: datetime) -> str:
    """Return the whole line, at most TITLE_LIMIT signs."""
    return _joined(word.text for word in _words(run, feed, now))


def lasting(run: Run, feed: Feed, now: datetime) -> str:
    """Return the line without what the clock alone changes: it is news when this differs."""
    return _joined(word.text for word in _words(run, feed, now) if not word.ticks)


def _joined(words: Iterator[str]) -> str:
    return hostile.title(" · ".join(word for word in words if word), TITLE_LIMIT)


def _words(run: Run, feed: Feed, now: datetime) -> Iterator[Word]:
    yield Word(text=_state(run))
    if run.state is State.FINISHED:
        yield from _end(run, feed)
        return
    if run.state is State.RUNNING:
        yield Word(text=_name(feed.phase or ""))
        yield Word(text=_course(feed))
    if run.attempt is not None and run.state is not State.QUEUED:
        yield Word(text=place_text(run.attempt.offer, nodes=len(run.attempt.members)))
    if run.attempts:
        yield Word(text=of_limit(cost(run, now), most_usd(run)), ticks=True)
    left = time_left(run, feed, now)
    if left is not None:
        yield Word(text=left_text(left), ticks=True)


def _end(run: Run, feed: Feed) -> Iterator[Word]:
    ended = run.finished_at or run.state_since
    yield Word(text=span(ended - (started_at(run) or run.created_at)))
    yield Word(text=of_limit(run.cost_usd, most_usd(run)))
    yield from (Word(text=text) for text in _metrics(feed)[:_HEADLINES])
    yield Word(text=release_tag(run))


def _state(run: Run) -> str:
    if is_held(run):
        return "waiting for approval"
    if run.state is not State.FINISHED:
        again = f" (attempt {len(run.attempts)})" if len(run.attempts) > 1 else ""
        return f"{run.state.value}{again}"
    ended = (run.outcome or Outcome.FAILED).value.replace("_", " ")
    if run.outcome is Outcome.SUCCEEDED:
        return ended
    why = hostile.title(run.reason.text, _REASON_LIMIT).rstrip(". ")
    return why if why.startswith(ended) else f"{ended}: {why}"


def _course(feed: Feed) -> str:
    """Return how far it is: its epoch, its share, or else the first metric."""
    epoch, epochs = _newest(feed, "epoch"), _newest(feed, "epochs")
    if epoch is not None:
        return f"epoch {number(epoch)}" + (f"/{number(epochs)}" if epochs is not None else "")
    if feed.progress is not None:
        return f"{feed.progress:.0%}"
    return next(iter(_metrics(feed)), "")


def _newest(feed: Feed, name: str) -> float | None:
    values = feed.metrics.get(name)
    return values[-1] if values else None


def _metrics(feed: Feed) -> list[str]:
    newest = [(name, values[-1]) for name, values in feed.metrics.items() if values]
    told = [pair for pair in newest if pair[0] not in COUNTERS]
    return [f"{_name(name)} {number(value)}" for name, value in told]


def _name(text: str) -> str:
    return hostile.title(text, _WORD_LIMIT)


def number(value: float) -> str:
    """Return a metric's value for people."""
    return f"{value:.4g}"


def place_text(offer: Offer, *, nodes: int) -> str:
    """Return machine and place such as `2 x L4 us-central1-a`, `4 nodes of 8 x H100 us-east5-a`."""
    what = "" if offer.machine == offer.place else offer.machine
    if offer.gpu_type:
        count = f"{offer.gpu_count} x " if offer.gpu_count > 1 else ""
        what = f"{count}{offer.gpu_type.upper()}"
    gang = f"{nodes} nodes of {what or 'one machine'}" if nodes > 1 else what
    return f"{gang} {offer.place}".strip()


def left_text(left: Left) -> str:
    """Return `18 min left`; when only its limits are known `at most 18 min left`."""
    return f"{'at most ' if left.at_most else ''}{_rounded(left.time)} left"


def _rounded(time: timedelta) -> str:
    minutes = time // timedelta(minutes=1)
    if minutes < 1:
        return "1 min"
    if minutes < _LIVE_MINUTES:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < _LIVE_HOURS else f"{hours // 24} days"


def release_tag(run: Run) -> str:
    """Return the tag of its release, as the release's own page has it; empty: there is none."""
    _, found, tag = (run.release_url or "").partition("/releases/tag/")
    return tag if found and not set(tag) & set(" \t\r\n()<>[]`") else ""
