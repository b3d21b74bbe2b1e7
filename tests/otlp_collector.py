"""A collector of traces on loopback, that reads what it gets by OpenTelemetry's own classes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Told:
    """One span as the collector got it."""

    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, str]
    status: str
    began_ns: int
    ended_ns: int
    resource: dict[str, str]


@dataclass
class Collector:
    url: str
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Told]:
        """Everything that came, decoded."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        found = []
        for body in list(self.bodies):
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {one.key: one.value.string_value for one in group.resource.attributes}
                for scope in group.scope_spans:
                    found += [_told(span, resource) for span in scope.spans]
        return found


def _told(span: object, resource: dict[str, str]) -> Told:
    return Told(
        name=span.name,  # type: ignore[attr-defined]
        trace=span.trace_id.hex(),  # type: ignore[attr-defined]
        id=span.span_id.hex(),  # type: ignore[attr-defined]
        parent=span.parent_span_id.hex(),  # type: ignore[attr-defined]
        links=tuple(link.trace_id.hex() for link in span.links),  # type: ignore[attr-defined]
        attributes={a.key: a.value.string_value for a in span.attributes},  # type: ignore[attr-defined]
        status=span.status.message,  # type: ignore[attr-defined]
        began_ns=span.start_time_unix_nano,  # type: ignore[attr-defined]
        ended_ns=span.end_time_unix_nano,  # type: ignore[attr-defined]
        resource=resource,
    )


@contextmanager
def a_collector() -> Iterator[Collector]:
    """Serve until the block ends."""
    found = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            good = self.path == "/v1/traces"
            if good:
                found.bodies.append(body)
            self.send_response(200 if good else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
