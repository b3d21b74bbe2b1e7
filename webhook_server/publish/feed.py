"""Follow the feeds of live runs, so that each event is read once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cynthus.codec import decode
from cynthus.errors import UserError
from cynthus.frozen import replace
from cynthus.wire import EventKind, Mark, RunEvent
from cynthus.wire_data import StagingView
from webhook_server.runs.feed_facts import Feed, Headway, Moment
from webhook_server.runs.usage import UsageMeter
from webhook_server.stores.event_store import EventStore

_PAGE = 500
_KEPT = 500  # runs; beyond that the feed of the one longest unused is read again
_LOG_TAIL = 60_000  # characters: what a check run shows of a log
_POINTS = 2_000  # of one metric; a sparkline has 24
_ANNOTATIONS = 1_000
_DATASETS = 64  # a spec has 32 at most
_MARKS = 20  # of one attempt: a boot has seven steps


@dataclass(kw_only=True)
class _Followed:
    seq: int = 0
    progress: float | None = None
    headway: Headway | None = None
    phase: str | None = None
    summary: str | None = None
    metrics: dict[str, list[float]] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    annotations: list[dict[str, object]] = field(default_factory=list)
    timeline: list[Moment] = field(default_factory=list)
    log: str = ""
    marks: dict[int, list[Mark]] = field(default_factory=dict)
    staging: dict[str, StagingView] = field(default_factory=dict)
    sampled: int = 0  # the attempt that `usage` is of
    usage: UsageMeter = field(default_factory=UsageMeter)


class Feeds:
    """What the check runs show of the feeds; a cache that may be lost at any time."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()

    def read(self, run_id: str) -> Feed:
        """Return the run's feed up to now."""
        with self._lock:
            found = self._followed.pop(run_id, None) or _Followed()
            self._followed[run_id] = found
            if len(self._followed) > _KEPT:
                del self._followed[next(iter(self._followed))]
        while page := self._events.after(run_id, found.seq, limit=_PAGE, kinds=_TAKERS):
            for event in page:
                _add(found, event)
            found.seq = page[-1].seq
        return _feed(found)

    def forget(self, run_id: str) -> None:
        """Drop what is kept of a run that has ended."""
        with self._lock:
            self._followed.pop(run_id, None)


def _add(found: _Followed, event: RunEvent) -> None:
    take = _TAKERS.get(event.kind)
    if take is not None:
        take(found, event)


def _add_log(found: _Followed, event: RunEvent) -> None:
    found.log = (found.log + str(event.body.get("text", "")))[-_LOG_TAIL:]


def _add_phase(found: _Followed, event: RunEvent) -> None:
    found.phase = str(event.body.get("name", ""))
    _add_moment(found, event.at, f"phase {found.phase}")


def _add_summary(found: _Followed, event: RunEvent) -> None:
    found.summary = str(event.body.get("text", ""))


def _add_notice(found: _Followed, event: RunEvent) -> None:
    found.notices[str(event.body.get("text", ""))] = None


def _add_annotation(found: _Followed, event: RunEvent) -> None:
    if len(found.annotations) < _ANNOTATIONS:
        found.annotations.append(event.body)


def _add_metric(found: _Followed, event: RunEvent) -> None:
    body, value = event.body, event.body.get("value")
    if not isinstance(value, (int, float)):
        return
    points = found.metrics.setdefault(str(body.get("name", "")), [])
    points.append(float(value))
    if len(points) > _POINTS:
        del points[1:-1:2]  # every second one: the course stays, first and last too


def _add_progress(found: _Followed, event: RunEvent) -> None:
    share = _share(event.body.get("value"))
    found.progress = share
    if share is None:
        return
    first = found.headway
    if first is None or share < first.newest:  # it begins again: another phase, another file
        first = Headway(first_at=event.at, first=share, newest_at=event.at, newest=share)
    found.headway = replace(first, newest_at=event.at, newest=share)


def _add_sample(found: _Followed, event: RunEvent) -> None:
    if event.attempt > found.sampled:  # another machine, perhaps another kind
        found.sampled, found.usage = event.attempt, UsageMeter()
    if event.attempt == found.sampled:
        found.usage.add(event.body, event.rank or 0)


def _share(value: object) -> float | None:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, (int, float)) else None


def _add_mark(found: _Followed, event: RunEvent) -> None:
    told = found.marks.setdefault(event.attempt, [])
    if not event.rank and len(told) < _MARKS:
        told.append(Mark(name=str(event.body.get("name", "")), at=event.at))


def _add_staging(found: _Followed, event: RunEvent) -> None:
    if event.rank:
        return  # the members of a gang stage the same
    try:
        view = decode(StagingView, event.body)
    except UserError:  # another version's: its notices tell all the same
        return
    if view.name in found.staging or len(found.staging) < _DATASETS:
        found.staging[view.name] = view


def _add_state(found: _Followed, event: RunEvent) -> None:
    state = str(event.body.get("state", ""))
    if state == "queued":  # a new attempt begins from nothing
        found.progress = found.headway = found.phase = None
        found.staging = {}
    _add_moment(found, event.at, state)


def _add_moment(found: _Followed, at: datetime, text: str) -> None:
    if not found.timeline or found.timeline[-1].text != text:
        found.timeline.append(Moment(at=at, text=text))
    del found.timeline[:-100]


_TAKERS: Mapping[EventKind, Callable[[_Followed, RunEvent], None]] = {
    EventKind.LOG: _add_log,
    EventKind.METRIC: _add_metric,
    EventKind.PROGRESS: _add_progress,
    EventKind.PHASE: _add_phase,
    EventKind.SUMMARY: _add_summary,
    EventKind.NOTICE: _add_notice,
    EventKind.ANNOTATION: _add_annotation,
    EventKind.STATE: _add_state,
    EventKind.MARK: _add_mark,
    EventKind.SAMPLE: _add_sample,
    EventKind.STAGING: _add_staging,
}


def _feed(found: _Followed) -> Feed:
    return Feed(
        progress=found.progress,
        headway=found.headway,
        phase=found.phase,
        metrics={name: tuple(points) for name, points in found.metrics.items()},
        summary=found.summary,
        notices=tuple(found.notices),
        annotations=tuple(found.annotations),
        timeline=tuple(found.timeline),
        log_tail=found.log,
        marks={attempt: tuple(told) for attempt, told in found.marks.items()},
        staging=tuple(found.staging.values()),
        usage=found.usage.usage(),
    )
