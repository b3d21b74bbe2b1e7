"""Let through what a run may put into its feed; count and cut the rest. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cynthus.frozen import replace
from cynthus.wire import AgentEvent, EventKind
from webhook_server.stores.clean import clean, cut_bytes

METRIC_NAMES = 200  # more lines than any chart can be read with
NAME_LENGTH = 200
#: Events of a run by kind. A day of samples every 5 s is 17,280; annotations: GitHub shows 50 a
#: request, and nobody reads more than two; an attempt has two or three marks; the others change at
#: the pace of people.
LIMITS = {
    EventKind.PHASE: 1_000,
    EventKind.PROGRESS: 20_000,
    EventKind.METRIC: 50_000,
    EventKind.ANNOTATION: 100,
    EventKind.SAMPLE: 100_000,
    EventKind.SUMMARY: 1_000,
    EventKind.NOTICE: 200,
    EventKind.MARK: 100,
    EventKind.STAGING: 20_000,  # eleven hours of one dataset, a view each two seconds
}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a run has put into its feed so far; the last value of each metric beside it."""

    kinds: dict[str, int] = field(default_factory=dict)  # events by kind, those left out included
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fed:
    """The events to store, with the counts after them."""

    events: list[AgentEvent]
    counts: Counts
    log_bytes: int  # of this attempt, what was left out included


def feed(
    events: tuple[AgentEvent, ...], counts: Counts, *, log_bytes: int, log_limit_bytes: int
) -> Fed:
    """Choose what is stored of one heartbeat's events; the first of each limit's excess is said."""
    fed = Fed(events=[], counts=counts, log_bytes=log_bytes)
    for event in events:
        if event.kind is EventKind.LOG:
            fed = _log(fed, event, log_limit_bytes)
        elif event.kind in LIMITS:
            fed = _counted(fed, event)
    return fed


def _log(fed: Fed, event: AgentEvent, limit: int) -> Fed:
    text = clean(str(event.body.get("text", "")))
    size = len(text.encode())
    kept = text if fed.log_bytes + size <= limit else cut_bytes(text, max(0, limit - fed.log_bytes))
    events = list(fed.events)
    if kept:
        events.append(replace(event, body={"text": kept}))
    if fed.log_bytes <= limit < fed.log_bytes + size:
        events.append(_notice(event, f"the log is cut here: {limit:,} bytes are kept"))
    return replace(fed, events=events, log_bytes=fed.log_bytes + size)


def _counted(fed: Fed, event: AgentEvent) -> Fed:
    body = clean(event.body)
    metrics = fed.counts.metrics
    if event.kind is EventKind.METRIC:
        metric = _metric(body)
        if metric is None:
            return fed
        name, value = metric
        if name not in metrics and len(metrics) >= METRIC_NAMES:
            return _left_out(fed, event, "metric_names", f"{METRIC_NAMES} metric names are kept")
        body, metrics = body | {"name": name, "value": value}, metrics | {name: value}
    number = fed.counts.kinds.get(event.kind, 0) + 1
    if number > LIMITS[event.kind]:
        text = f"{LIMITS[event.kind]:,} events of the kind `{event.kind.value}` are kept"
        return _left_out(fed, event, event.kind.value, text)
    counts = Counts(kinds=fed.counts.kinds | {event.kind.value: number}, metrics=metrics)
    return replace(fed, events=[*fed.events, replace(event, body=body)], counts=counts)


def _metric(body: dict[str, object]) -> tuple[str, float] | None:
    name, value = body.get("name"), body.get("value")
    if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    printable = "".join(c for c in name if c.isprintable())[:NAME_LENGTH]
    return (printable, number) if printable and math.isfinite(number) else None


def _left_out(fed: Fed, event: AgentEvent, key: str, text: str) -> Fed:
    mark = f"{key}_left_out"
    number = fed.counts.kinds.get(mark, 0) + 1
    events = fed.events if number > 1 else [*fed.events, _notice(event, f"{text}; more came")]
    counts = replace(fed.counts, kinds=fed.counts.kinds | {mark: number})
    return replace(fed, events=events, counts=counts)


def _notice(event: AgentEvent, text: str) -> AgentEvent:
    return AgentEvent(at=event.at, kind=EventKind.NOTICE, body={"text": text})
