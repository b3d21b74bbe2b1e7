"""Tell a collector of OpenTelemetry what happened when, if one is configured; else do nothing.

`OTEL_EXPORTER_OTLP_ENDPOINT` and the extra `otel` turn it on. Nothing of the library is imported
otherwise. One attempt of a run is one trace, whichever process, thread or replica did a part of it:
its id is made of the run's id and the attempt's number, so nobody has to hand it over.
https://opentelemetry.io/docs/specs/otel/trace/api/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from webhook_server.about import about, subjects


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Something that is over, as the root of its trace."""

    name: str
    trace: str  # 32 hex digits
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, str] = field(default_factory=dict)


class Exporter(Protocol):
    """What spans are told to; `otel` has the one of OpenTelemetry."""

    def span(
        self, name: str, trace: str | None, attributes: Mapping[str, str]
    ) -> AbstractContextManager[None]:
        """Return what is open for as long as the work takes. `trace`: 32 hex digits."""

    def record(self, whole: Whole) -> None:
        """Tell of something that is over."""

    def close(self) -> None:
        """Send what is left."""


_UNTOLD = nullcontext()  # costs nothing where nobody listens
_exporters: list[Exporter] = []  # one at most: what this process tells of goes one way


def install(exporter: Exporter) -> None:
    """Tell this one from now on, and no other."""
    _exporters[:] = [exporter]


def uninstall() -> None:
    """Send what is left, and tell nobody any more. Safe to repeat."""
    while _exporters:
        _exporters.pop().close()


def span(name: str, **attributes: str) -> AbstractContextManager[None]:
    """Tell that the block is one piece of work, of the run or request that it is about."""
    return _told(name, attributes) if _exporters else _UNTOLD


@contextmanager
def _told(name: str, attributes: Mapping[str, str]) -> Iterator[None]:
    about = subjects()
    told = {f"cynthus.{key}": text for key, text in {**about, **attributes}.items()}
    with _exporters[0].span(name, _trace_of(about), told):
        yield


def run_accepted(run_id: str) -> None:
    """Tell that this piece of work led to a run: a link from its asker to the run's own trace."""
    with about(run=run_id), span("accept"):
        pass


def attempt_over(run_id: str, attempt: int, when: tuple[datetime, datetime], cause: str) -> None:
    """Tell that an attempt is over: when it was ordered, when it ended, by which cause."""
    if not _exporters:
        return
    whole = Whole(
        name="attempt",
        trace=trace_id(run_id, attempt),
        began_at=when[0],
        ended_at=when[1],
        attributes={"cynthus.run": run_id, "cynthus.attempt": str(attempt), "cynthus.cause": cause},
    )
    _exporters[0].record(whole)


def trace_id(run_id: str, attempt: int) -> str:
    """Return the id of the trace of one attempt; 0: what came before the first."""
    return sha256(f"cynthus/{run_id}/{attempt}".encode()).hexdigest()[:32]


def _trace_of(about: Mapping[str, str]) -> str | None:
    """Return the trace that this work belongs to; None: one of its own, or its caller's."""
    if "run" in about:
        return trace_id(about["run"], int(about.get("attempt", "0")))
    return about.get("request")
