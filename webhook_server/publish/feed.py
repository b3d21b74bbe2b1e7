"""Follow the feeds of live runs, so that each event is read once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

from cynthus.wire import EventKind, Mark, RunEvent
from webhook_server.runs.report import Feed, Moment
from webhook_server.stores.event_store import EventStore

_PAGE = 500
_KEPT = 500  # runs; beyond that the feed of the one longest unused is read again
_LOG_TAIL = 60_000  # characters: what a check run shows of a log
_POINTS = 2_000  # of one metric; a sparkline has 24
_ANNOTATIONS = 1_000
_MARKS = 20  # of one attempt: a boot has seven steps
# Samples are for the dashboard's charts only.
_KINDS = tuple(
    kind for kind in EventKind if kind not in (EventKind.SAMPLE, EventKind.MASK, EventKind.LOG)
)


@dataclass(kw_only=True)
class _Followed:
    seq: int = 0
    progress: float | None = None
    phase: str | None = None
    summary: str | None = None
    metrics: dict[str, list[float]] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    annotations: list[dict[str, object]] = field(default_factory=list)
    timeline: list[Moment] = field(default_factory=list)
    log: str = ""
    marks: dict[int, list[Mark]] = field(default_factory=dict)


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
        kinds = (*_KINDS, EventKind.LOG)
        while page := self._events.after(run_id, found.seq, limit=_PAGE, kinds=kinds):
            for event in page:
                _add(found, event)
            found.seq = page[-1].seq
        return _feed(found)

    def forget(self, run_id: str) -> None:
        """Drop what is kept of a run that has ended."""
        with self._lock:
            self._followed.pop(run_id, None)


def _add(found: _Followed, event: RunEvent) -> None:
    body = event.body
    if event.kind is EventKind.LOG:
        found.log = (found.log + str(body.get("text", "")))[-_LOG_TAIL:]
        return
    match event.kind:
        case EventKind.METRIC:
            _add_metric(found, body)
        case EventKind.PROGRESS:
            found.progress = _share(body.get("value"))
        case EventKind.PHASE:
            found.phase = str(body.get("name", ""))
            _add_moment(found, event.at, f"phase {found.phase}")
        case EventKind.SUMMARY:
            found.summary = str(body.get("text", ""))
        case EventKind.NOTICE:
            found.notices[str(body.get("text", ""))] = None
        case EventKind.ANNOTATION:
            if len(found.annotations) < _ANNOTATIONS:
                found.annotations.append(body)
        case EventKind.STATE | EventKind.MARK:
            _add_step(found, event)
        case _:
            return


def _add_metric(found: _Followed, body: dict[str, object]) -> None:
    value = body.get("value")
    if not isinstance(value, (int, float)):
        return
    points = found.metrics.setdefault(str(body.get("name", "")), [])
    points.append(float(value))
    if len(points) > _POINTS:
        del points[1:-1:2]  # every second one: the course stays, first and last too


def _share(value: object) -> float | None:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, (int, float)) else None


def _add_step(found: _Followed, event: RunEvent) -> None:
    """Take what tells how far the run, or the boot of its instance, has come."""
    if event.kind is EventKind.MARK:
        told = found.marks.setdefault(event.attempt, [])
        if not event.rank and len(told) < _MARKS:
            told.append(Mark(name=str(event.body.get("name", "")), at=event.at))
        return
    state = str(event.body.get("state", ""))
    if state == "queued":  # a new attempt begins from nothing
        found.progress = found.phase = None
    _add_moment(found, event.at, state)


def _add_moment(found: _Followed, at: datetime, text: str) -> None:
    if not found.timeline or found.timeline[-1].text != text:
        found.timeline.append(Moment(at=at, text=text))
    del found.timeline[:-100]


def _feed(found: _Followed) -> Feed:
    return Feed(
        progress=found.progress,
        phase=found.phase,
        metrics={name: tuple(points) for name, points in found.metrics.items()},
        summary=found.summary,
        notices=tuple(found.notices),
        annotations=tuple(found.annotations),
        timeline=tuple(found.timeline),
        log_tail=found.log,
        marks={attempt: tuple(told) for attempt, told in found.marks.items()},
    )
