"""Tell a collector of OpenTelemetry what happened when, if one is configured; else do nothing.

`OTEL_EXPORTER_OTLP_ENDPOINT` and the extra `otel` turn it on. Nothing of the library is imported
otherwise. One attempt of a run is one trace, whichever process, thread or replica did a part of it:
its id is made of the run's id and the attempt's number, so nobody has to hand it over.
https://opentelemetry.io/docs/specs/otel/trace/api/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from typing import Protocol

from webhook_server.about import subjects


class Exporter(Protocol):
    """What spans are told to; `tracing` makes the one of OpenTelemetry."""

    def span(
        self, name: str, trace: str | None, attributes: dict[str, str]
    ) -> AbstractContextManager[None]:
        """Return what is open for as long as the work takes. `trace`: 32 hex digits."""

    def close(self) -> None:
        """Send what is left."""


_exporters: list[Exporter] = []  # one at most: what this process tells of goes one way


def install(exporter: Exporter) -> None:
    """Tell this one from now on, and no other."""
    _exporters[:] = [exporter]


def uninstall() -> None:
    """Send what is left, and tell nobody any more. Safe to repeat."""
    while _exporters:
        _exporters.pop().close()


@contextmanager
def span(name: str, **attributes: str) -> Iterator[None]:
    """Tell that the block is one piece of work, of the run or request that it is about."""
    if not _exporters:
        yield
        return
    about = subjects()
    told = {f"cynthus.{key}": text for key, text in {**about, **attributes}.items()}
    with _exporters[0].span(name, _trace_of(about), told):
        yield


def trace_id(run_id: str, attempt: int) -> str:
    """Return the id of the trace of one attempt; 0: what came before the first."""
    return sha256(f"cynthus/{run_id}/{attempt}".encode()).hexdigest()[:32]


def _trace_of(about: dict[str, str] | object) -> str | None:
    """Return the trace that this work belongs to; None: one of its own, or its caller's."""
    if not isinstance(about, dict):
        return None
    if "run" in about:
        return trace_id(about["run"], int(about.get("attempt", "0")))
    return about.get("request")
