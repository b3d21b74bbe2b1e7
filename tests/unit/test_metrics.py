"""Metrics: one registry, names by Prometheus' rules, text that a strict reader takes."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus_text import parsed
from webhook_server import metrics
from webhook_server.github_api.door import _shape
from webhook_server.metrics import REGISTRY, Meters, Metric, MetricKind, family_of, spell
from webhook_server.providers.metered import Metered
from webhook_server.providers.provider import InstanceNotFound, NoCapacity

ROOT = Path(__file__).parents[2]
#: Per run, per commit, per person: what would make a new series each time.
FORBIDDEN = {"run", "run_id", "commit", "sha", "login", "actor", "repository", "instance", "name"}


@pytest.mark.parametrize("metric", REGISTRY.values(), ids=lambda metric: metric.name)
def test_names_follow_prometheus_guide(metric: Metric) -> None:
    assert re.fullmatch(r"(cynthus|process)_[a-z][a-z0-9_]*[a-z0-9]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert not re.search(r"_(ms|millis|minutes|kb|mb|percent|pct)(_|$)", metric.name)
    assert not FORBIDDEN & set(metric.labels)
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
    assert list(metric.buckets) == sorted(metric.buckets)


def test_every_metric_of_the_registry_is_used_by_the_server() -> None:
    names = {node.targets[0].id: node for node in _constants()}
    text = "\n".join(
        path.read_text("utf-8")
        for path in (ROOT / "webhook_server").rglob("*.py")
        if path.name != "metrics.py"
    )
    by_name = {"HEARTBEATS": "heartbeats_total", "BLOB_BYTES": "blob_bytes_received_total"}
    written = {name for name in names if re.search(rf"\b{name}\b", text)}
    missing = {n for n in names if n not in written and by_name.get(n, n) not in text}
    spelled = {n for n in missing if _name_of(names[n]) in text}
    assert missing - spelled == set()


def _constants() -> list[ast.Assign]:
    tree = ast.parse((ROOT / "webhook_server" / "metrics.py").read_text("utf-8"))
    return [
        node
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in {"_counter", "_gauge", "_histogram"}
    ]


def _name_of(node: ast.Assign) -> str:
    assert isinstance(node.value, ast.Call)
    first = node.value.args[0]
    assert isinstance(first, ast.Constant)
    return str(first.value)


def test_counted_values_come_out_as_text_that_a_strict_reader_takes() -> None:
    meters = Meters()
    meters.add(metrics.PROVIDER_CALLS, provider='a"b\\c\nd', verb="get", result="done")
    meters.add(metrics.COMMITS_FAILED)
    meters.add(metrics.COMMITS_FAILED, 2)
    meters.set(metrics.STARTED_AT, 1769860800.25)
    for value in (0.0004, 0.003, 99.0, -5.0):
        meters.observe(metrics.COMMIT_SECONDS, value)
    found = parsed(spell(meters.samples()))
    assert found["cynthus_database_commits_failed_total"].samples == {
        ("cynthus_database_commits_failed_total", ()): 3
    }
    assert found["process_start_time_seconds"].samples.popitem()[1] == 1769860800.25
    commits = found["cynthus_database_commit_seconds"]
    assert commits.samples["cynthus_database_commit_seconds_count", ()] == 4
    assert commits.samples["cynthus_database_commit_seconds_bucket", (("le", "0.001"),)] == 2
    assert commits.samples["cynthus_database_commit_seconds_bucket", (("le", "+Inf"),)] == 4
    assert meters.value(metrics.COMMIT_SECONDS) == 4


def test_a_sample_outside_the_registry_cannot_be_written() -> None:
    with pytest.raises(KeyError):
        spell([("cynthus_made_up_total", {}, 1)])
    with pytest.raises(ValueError, match="has the labels"):
        Meters().add(metrics.PROVIDER_CALLS, provider="x")
    assert family_of("cynthus_pass_seconds_bucket") is metrics.PASS_SECONDS


def test_samples_of_a_family_stand_together_however_they_come() -> None:
    text = spell(
        [
            ("cynthus_runs", {"state": "queued"}, 1),
            ("cynthus_runs_due", {}, 0),
            ("cynthus_runs", {"state": "running"}, 12345678),
        ]
    )
    assert len(parsed(text)["cynthus_runs"].samples) == 2
    assert 'cynthus_runs{state="running"} 12345678\n' in text  # not 1.23457e+07


@pytest.mark.parametrize(
    "text",
    [
        "cynthus_runs 1",
        "# HELP a x\n# TYPE a gauge\na{b=c} 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n",
        '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_count 1\n',
    ],
)
def test_the_strict_reader_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/repos/acme/vision/contents/.github/secret-plans.yml", "/repos/contents/{}"),
        ("/repos/acme/vision/branches/feature%2Fx", "/repos/branches/{}"),
        ("/repos/acme/vision/collaborators/ada/permission", "/repos/collaborators/{}/permission"),
        ("/repos/acme/vision/issues/5/comments?per_page=100", "/repos/issues/{}/comments"),
        ("/repos/acme/vision", "/repos"),
        ("/app/installations/77/access_tokens", "/app/installations/{}/access_tokens"),
        ("/app-manifests/s3cr3tc0de/conversions", "/app-manifests/{}/conversions"),
        ("/app/hook/deliveries/9/attempts", "/app/hook/deliveries/{}/attempts"),
    ],
)
def test_a_request_is_counted_under_a_name_that_nobody_outside_chose(path: str, shape: str) -> None:
    assert _shape(path) == shape


class Refusing:
    """A provider that has nothing and knows nothing."""

    name = "metered-by-a-test"

    def get(self, name: str) -> None:
        raise InstanceNotFound(name)

    def create(self, *_: object) -> None:
        raise NoCapacity("none")

    def list(self) -> list[object]:
        return []


@pytest.fixture
def stopwatch() -> Iterator[None]:
    """Seconds that grow by one a look."""
    before, metrics.METERS.stopwatch = metrics.METERS.stopwatch, itertools.count().__next__
    yield
    metrics.METERS.stopwatch = before


def test_without_a_stopwatch_nothing_reads_a_clock() -> None:
    before = metrics.METERS.value(metrics.GITHUB_SECONDS)
    with metrics.timed(metrics.GITHUB_SECONDS):
        pass
    assert metrics.METERS.value(metrics.GITHUB_SECONDS) == before


@pytest.mark.usefixtures("stopwatch")
def test_a_providers_answers_are_counted_and_go_through_unchanged() -> None:
    provider = Metered(Refusing())  # type: ignore[arg-type]
    with pytest.raises(InstanceNotFound):
        provider.get("x")
    with pytest.raises(NoCapacity):
        provider.create(None, "")  # type: ignore[arg-type]
    assert provider.list() == []
    told = {
        (verb, result): metrics.METERS.value(
            metrics.PROVIDER_CALLS, provider=provider.name, verb=verb, result=result
        )
        for verb, result in (("get", "not_found"), ("create", "no_capacity"), ("list", "done"))
    }
    assert set(told.values()) == {1}
    took = metrics.METERS.value(metrics.PROVIDER_SECONDS, provider=provider.name, verb="get")
    assert took == 1
