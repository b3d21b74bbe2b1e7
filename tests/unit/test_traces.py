"""Traces: nothing without a collector; with one, an attempt is one trace over all processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.otlp_collector import Collector, Told, a_collector
from webhook_server import traces
from webhook_server.about import about
from webhook_server.otel import OtlpExporter
from webhook_server.traces import attempt_over, span, trace_id

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TRACE = trace_id("arun00000001", 2)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with a_collector() as found:
        traces.install(OtlpExporter(found.url, "replica-1"))
        yield found
        traces.uninstall()


def sent(collector: Collector) -> dict[str, Told]:
    """Let everything be sent; return the spans by name."""
    traces.uninstall()
    return {one.name: one for one in collector.spans}


def test_without_a_collector_nothing_of_the_library_is_loaded() -> None:
    program = (
        "import sys\n"
        "from webhook_server import app, traces\n"
        "with traces.span('x'): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=120)


def test_work_of_an_attempt_stands_in_the_trace_that_its_name_makes(collector: Collector) -> None:
    with about(run="arun00000001", attempt="2"), span("pass"), span("provider create", verb="x"):
        pass
    spans = sent(collector)
    outer, inner = spans["pass"], spans["provider create"]
    assert {outer.trace, inner.trace} == {TRACE}
    assert inner.parent == outer.id
    assert outer.parent == TRACE[16:]
    assert inner.attributes == {
        "cynthus.run": "arun00000001",
        "cynthus.attempt": "2",
        "cynthus.verb": "x",
    }
    assert outer.resource["service.name"] == "cynthus"
    assert outer.resource["service.instance.id"] == "replica-1"


def test_the_attempt_itself_is_the_root_of_its_trace(collector: Collector) -> None:
    with about(run="arun00000001", attempt="2"), span("pass"):
        attempt_over("arun00000001", 2, (NOON, NOON + timedelta(minutes=5)), "succeeded")
    spans = sent(collector)
    root = spans["attempt"]
    assert (root.trace, root.id, root.parent) == (TRACE, TRACE[16:], "")
    assert spans["pass"].parent == root.id
    assert root.ended_ns - root.began_ns == 300 * 10**9
    assert root.began_ns == int(NOON.timestamp()) * 10**9
    assert root.attributes["cynthus.cause"] == "succeeded"


def test_what_led_to_a_run_is_linked_and_not_mixed_with_it(collector: Collector) -> None:
    request = "0af7651916cd43dd8448eb211c80319c"
    with about(request=request), span("door pages"), about(run="arun00000001"), span("accept"):
        pass
    spans = sent(collector)
    assert spans["door pages"].trace == request
    assert spans["accept"].trace == trace_id("arun00000001", 0)
    assert spans["accept"].links == (request,)


def test_what_raises_is_marked_by_its_type_and_never_by_its_text(collector: Collector) -> None:
    with pytest.raises(ValueError, match="canary"), about(run="arun00000001"), span("pass"):
        raise ValueError("canary-secret-0123456789")
    found = sent(collector)["pass"]
    assert found.status == "ValueError"
    assert not any(b"canary" in body for body in collector.bodies)


def test_another_run_or_attempt_is_another_trace() -> None:
    ids = {trace_id(run, number) for run in ("a", "b") for number in (0, 1)}
    assert len(ids) == 4
    assert all(len(one) == 32 and int(one, 16) for one in ids)


def test_closing_twice_sends_nothing_twice(collector: Collector) -> None:
    with about(run="arun00000001"), span("pass"):
        pass
    traces.uninstall()
    traces.uninstall()
    with span("pass"):  # nobody is told
        pass
    assert [one.name for one in collector.spans] == ["pass"]
