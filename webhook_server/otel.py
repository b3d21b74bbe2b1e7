"""Send spans to a collector by OTLP over HTTP: the one module that knows OpenTelemetry.

Imported only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, cast

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from cynthus.version import own_version
from webhook_server.traces import Whole

CLOSE_LIMIT_MS = 3000  # of the 30 s in which a server stops
_EXPORT_LIMIT_S = 5  # a collector that is away must not hold up anything


class OtlpExporter:
    """Spans of this process, sent in batches by a thread of the library's own."""

    def __init__(self, endpoint: str, replica: str) -> None:
        told = {
            "service.name": "cynthus",
            "service.version": own_version(),
            "service.instance.id": replica,
        }
        url = f"{endpoint.rstrip('/')}/v1/traces"
        sender = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_LIMIT_S)
        self._provider = TracerProvider(
            resource=Resource.create(told), id_generator=cast("Any", _Ids()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("cynthus")

    @contextmanager
    def span(self, name: str, trace: str | None, attributes: Mapping[str, str]) -> Iterator[None]:
        """Keep a span open for as long as the block takes; what raises marks it, by its type."""
        around = api.get_current_span().get_span_context()
        context, links = None, []
        if trace is not None and not (around.is_valid and around.trace_id == int(trace, 16)):
            # Work of another trace: below that one's root, with a link to what led here.
            context = api.set_span_in_context(api.NonRecordingSpan(_root_of(trace)))
            links = [api.Link(around)] if around.is_valid else []
        with self._tracer.start_as_current_span(
            name,
            context=context,
            links=links,
            attributes=dict(attributes),
            record_exception=False,  # its text may hold what nobody outside should see
            set_status_on_exception=False,
        ) as opened:
            try:
                yield
            except BaseException as error:
                opened.set_status(api.Status(api.StatusCode.ERROR, type(error).__name__))
                raise

    def record(self, whole: Whole) -> None:
        """Tell of something that is over; it is the root of its trace."""
        root = _root_of(whole.trace)
        forced = _forced.set((root.trace_id, root.span_id))
        try:
            told = self._tracer.start_span(
                whole.name,
                context=Context(),  # below nothing
                attributes=dict(whole.attributes),
                start_time=_nanoseconds(whole.began_at),
            )
        finally:
            _forced.reset(forced)
        told.end(_nanoseconds(whole.ended_at))

    def close(self) -> None:
        """Send what is left, within a few seconds."""
        self._provider.force_flush(CLOSE_LIMIT_MS)
        self._provider.shutdown()


def _root_of(trace: str) -> api.SpanContext:
    """Return the span below which everything of a trace stands: any process can name it."""
    number = int(trace, 16)
    return api.SpanContext(
        trace_id=number,
        span_id=number & (2**64 - 1) or 1,
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000


_forced: ContextVar[tuple[int, int] | None] = ContextVar("forced", default=None)


class _Ids:
    """Random ids, but for a root, whose ids are its trace's."""

    def generate_trace_id(self) -> int:
        """Return a trace's id."""
        forced = _forced.get()
        return forced[0] if forced else random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """Return a span's id."""
        forced = _forced.get()
        return forced[1] if forced else random.getrandbits(64) or 1

    def is_trace_id_random(self) -> bool:
        """Say that a trace's id is not all random: those of attempts are made of their names."""
        return False
