"""What a run's feed tells of it, newest facts and short histories: data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cynthus.wire import Mark
from cynthus.wire_data import StagingView
from webhook_server.runs.usage import Usage


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    text: str


@dataclass(frozen=True, kw_only=True)
class Headway:
    """The first and the newest word of the newest attempt on its progress."""

    first_at: datetime
    first: float  # 0…1: an attempt that goes on from a checkpoint does not begin with 0
    newest_at: datetime
    newest: float


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What the run's feed tells."""

    progress: float | None = None  # 0…1
    headway: Headway | None = None
    phase: str | None = None
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    summary: str | None = None
    notices: tuple[str, ...] = ()
    annotations: tuple[Mapping[str, object], ...] = ()
    timeline: tuple[Moment, ...] = ()
    log_tail: str = ""
    marks: Mapping[int, Sequence[Mark]] = field(default_factory=dict)  # by attempt
    staging: tuple[StagingView, ...] = ()  # of the newest attempt, by dataset
    usage: Usage = field(default_factory=Usage)  # of the newest attempt
