"""Name every metric of the server, count what happens, write it in Prometheus' text format.

The one list of what is measured: docs/metrics.md is made from it, alert rules are checked against
it, and a sample of any other name cannot be written. Names follow
https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum

# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
Sample = tuple[str, Mapping[str, str], float]


class MetricKind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One thing that is measured."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()  # few values each: never a run, a commit, a person
    buckets: tuple[float, ...] = ()  # upper bounds of a histogram


#: From a database's commit to GitHub's slowest answer.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: From "at once" to an outage of hours.
LAGS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
#: Works a commit, by doubling; 256 is the most.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REGISTRY: dict[str, Metric] = {}


def _metric(kind: MetricKind, name: str, text: str, *labels: str) -> Metric:
    made = Metric(name=name, kind=kind, help=text, labels=labels)
    REGISTRY[name] = made
    return made


def _counter(name: str, text: str, *labels: str) -> Metric:
    return _metric(MetricKind.COUNTER, name, text, *labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return _metric(MetricKind.GAUGE, name, text, *labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    made = Metric(name=name, kind=MetricKind.HISTOGRAM, help=text, labels=labels, buckets=buckets)
    REGISTRY[name] = made
    return made


# ── the process ─────────────────────────────────────────────────────────────────────────────────

BUILD_INFO = _gauge(
    "cynthus_build_info", "1, with the server's version and its schema's.", "version", "schema"
)
STARTED_AT = _gauge(
    "process_start_time_seconds", "When this process started, in seconds since 1970."
)
LOOP_AGE = _gauge(
    "cynthus_loop_last_step_seconds", "Seconds since a loop ended its last step.", "loop"
)
LOOP_OVERDUE = _gauge(
    "cynthus_loop_overdue_seconds", "Seconds since a loop should have moved; 0: in time.", "loop"
)
LOOP_FAILURES = _counter("cynthus_loop_failures_total", "Steps of a loop that raised.", "loop")

# ── doors ───────────────────────────────────────────────────────────────────────────────────────

REQUESTS = _counter("cynthus_requests_total", "Requests answered.", "door", "status")
HEARTBEATS = _counter("cynthus_heartbeats_total", "Heartbeats taken.")
BLOB_BYTES = _counter("cynthus_blob_bytes_received_total", "Bytes of outputs taken at our door.")
STREAM_READERS = _gauge("cynthus_stream_readers", "Live views open now.")

# ── the database ────────────────────────────────────────────────────────────────────────────────

WRITES_WAITING = _gauge("cynthus_database_writes_waiting", "Works queued for the writer.")
COMMIT_SECONDS = _histogram(
    "cynthus_database_commit_seconds",
    "A transaction of the writer, fsync included.",
    buckets=SECONDS,
)
COMMIT_WORKS = _histogram(
    "cynthus_database_commit_works", "Works that shared one commit.", buckets=SIZES
)
COMMITS_FAILED = _counter(
    "cynthus_database_commits_failed_total", "Transactions that the database did not take."
)

# ── cached data ─────────────────────────────────────────────────────────────────────────────────

DATA_CLAIMS = _counter(
    "cynthus_data_claims_total",
    "Claims of datasets by agents: ready (a hit), fetch (a miss), wait (another brings it).",
    "standing",
)
DATA_KEPT = _counter("cynthus_data_trees_kept_total", "Datasets that agents have brought whole.")
DATA_EVICTED = _counter("cynthus_data_trees_evicted_total", "Datasets evicted from the cache.")
DATA_BYTES = _gauge("cynthus_data_cache_bytes", "Bytes of cached data, as last counted.")
DATA_BYTES_DELETED = _counter(
    "cynthus_data_bytes_deleted_total", "Bytes of cached data that were deleted."
)

# ── runs ────────────────────────────────────────────────────────────────────────────────────────

RUNS = _gauge("cynthus_runs", "Unfinished runs in each state.", "state")
RUNS_DUE = _gauge("cynthus_runs_due", "Runs that should be looked at by now.")
RUNS_DUE_AGE = _gauge(
    "cynthus_runs_oldest_due_seconds", "How overdue the most overdue run is; 0: none."
)
RUN_LAG = _histogram(
    "cynthus_run_lag_seconds", "From when a run was due to when its pass began.", buckets=LAGS
)
PASSES = _counter(
    "cynthus_passes_total", "Passes of the loop: saved, lost to another, raised.", "result"
)
PASS_SECONDS = _histogram(
    "cynthus_pass_seconds", "One pass: observe, decide, save, perform.", buckets=SECONDS
)
SAVES_LOST = _counter(
    "cynthus_saves_lost_total",
    "Decisions dropped: the run had changed, its budget, turn or warm instance was taken.",
    "why",
)
RUNS_PARKED = _counter("cynthus_runs_parked_total", "Runs ended since we cannot handle them.")
RUNS_FINISHED = _counter("cynthus_runs_finished_total", "Runs that ended.", "outcome")
ATTEMPTS = _counter("cynthus_attempts_total", "Attempts ordered.", "provider")
ATTEMPTS_ENDED = _counter("cynthus_attempts_ended_total", "Attempts over, by cause.", "cause")
COST = _counter("cynthus_run_cost_usd_total", "Cost of finished runs, in USD.")
COMMITTED = _gauge(
    "cynthus_committed_usd", "The most that unfinished runs may come to cost, in USD."
)
BUDGET_USED = _gauge(
    "cynthus_budget_used_ratio",
    "Of the fullest budget that a run was held against lately: what is booked of it.",
    "scope",
)

# ── instances ───────────────────────────────────────────────────────────────────────────────────

INSTANCES = _gauge(
    "cynthus_instances",
    "Instances of attempts under way: ordered, beating, silent (no heartbeat for 30 s).",
    "provider",
    "state",
)
HEARTBEAT_AGE = _gauge(
    "cynthus_heartbeat_oldest_seconds", "Since the longest silent agent was heard; 0: none."
)
PROVIDER_CALLS = _counter(
    "cynthus_provider_calls_total", "Calls of providers, by answer.", "provider", "verb", "result"
)
PROVIDER_SECONDS = _histogram(
    "cynthus_provider_call_seconds", "A call of a provider.", "provider", "verb", buckets=SECONDS
)
COOL_DOWNS = _gauge("cynthus_cool_downs", "Places that nobody asks for a while.", "provider")
WARM = _gauge("cynthus_warm_instances", "Instances that wait for their repository's next run.")
LENT = _gauge("cynthus_lent_instances", "What a provider lends with our mark.", "provider")
UNKNOWN = _gauge("cynthus_unknown_instances", "Of these, what no record knows.", "provider")
UNKNOWN_USD = _gauge(
    "cynthus_unknown_usd_per_hour", "What the unknown ones cost an hour, in USD.", "provider"
)
LEFT_OVER = _gauge(
    "cynthus_leftover_instances", "Of these, what belongs to an attempt that is over.", "provider"
)
SWEEPS = _counter(
    "cynthus_sweeps_total", "Sweeps: done, skipped for want of a whole list.", "provider", "result"
)
SWEEP_REFUSED = _gauge(
    "cynthus_sweep_refused",
    "1: unknown instances are kept, since it may be our records that err.",
    "provider",
)
STRAYS_DELETED = _counter(
    "cynthus_strays_deleted_total", "Instances deleted that no record knew.", "provider"
)

# ── GitHub ──────────────────────────────────────────────────────────────────────────────────────

DELIVERIES_DUE = _gauge("cynthus_deliveries_due", "Deliveries that wait to be handled.")
DELIVERIES_AGE = _gauge(
    "cynthus_deliveries_oldest_seconds", "Since the longest waiting delivery came; 0: none."
)
DELIVERIES_PARKED = _gauge("cynthus_deliveries_parked", "Deliveries that could not be handled.")
DELIVERIES = _counter("cynthus_deliveries_total", "Deliveries handled, by end.", "state")
DELIVERY_SECONDS = _histogram(
    "cynthus_delivery_handled_seconds",
    "From a delivery's arrival to its end: webhook to run.",
    buckets=LAGS,
)
PUBLICATIONS_DUE = _gauge("cynthus_publications_due", "Publications that should be sent by now.")
PUBLICATIONS_AGE = _gauge(
    "cynthus_publications_oldest_due_seconds", "How overdue the most overdue one is; 0: none."
)
PUBLICATIONS_REFUSED = _gauge(
    "cynthus_publications_refused", "Publications that GitHub refused for good.", "kind"
)
PUBLICATION_LAG = _histogram(
    "cynthus_publication_lag_seconds",
    "From when a publication was due to when it was taken up: state to check run.",
    "kind",
    buckets=LAGS,
)
PUBLICATIONS_FAILED = _counter(
    "cynthus_publications_failed_total", "Publications put off or refused.", "kind", "how"
)
GITHUB_REQUESTS = _counter("cynthus_github_requests_total", "Requests to GitHub.", "request")
GITHUB_FAILURES = _counter(
    "cynthus_github_failures_total",
    "Requests without a good answer: limited, away, refused, not_found.",
    "how",
)
GITHUB_SECONDS = _histogram(
    "cynthus_github_request_seconds",
    "A request to GitHub, our own waiting aside.",
    buckets=SECONDS,
)
GITHUB_CONTENT = _gauge(
    "cynthus_github_content_writes_last_hour",
    "Comments and releases made in the last hour; GitHub allows 500.",
    "installation",
)
GITHUB_PAUSED = _gauge(
    "cynthus_github_paused_seconds",
    "How long nothing is sent yet, as GitHub asked.",
    "installation",
)
GITHUB_ALLOWANCE = _gauge(
    "cynthus_github_allowance", "Requests that GitHub allows an hour.", "installation"
)
GITHUB_LEFT = _gauge(
    "cynthus_github_allowance_left", "Requests that are left of this hour.", "installation"
)


# ── counting ────────────────────────────────────────────────────────────────────────────────────

_Key = tuple[str, tuple[str, ...]]


class Meters:
    """What was counted in this process. Any thread may add to it."""

    def __init__(self) -> None:
        #: Seconds that only grow; ground.py lends it, since nobody else reads a clock.
        self.stopwatch: Callable[[], float] | None = None
        self._lock = threading.Lock()
        self._values: dict[_Key, float] = {}
        self._parts: dict[_Key, list[float]] = {}  # of histograms: each bucket, the rest, the sum

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = _key(metric, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Note the value of a gauge."""
        with self._lock:
            self._values[_key(metric, labels)] = value

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add one value to a histogram; what clocks make negative counts as 0."""
        key, value = _key(metric, labels), max(value, 0.0)
        with self._lock:
            parts = self._parts.get(key)
            if parts is None:
                parts = self._parts[key] = [0.0] * (len(metric.buckets) + 2)
            parts[bisect_left(metric.buckets, value)] += 1
            parts[-1] += value

    def value(self, metric: Metric, **labels: str) -> float:
        """Return a counter or a gauge; of a histogram how many values there were."""
        key = _key(metric, labels)
        with self._lock:
            if metric.kind is MetricKind.HISTOGRAM:
                return sum(self._parts.get(key, [0.0])[:-1])
            return self._values.get(key, 0)

    def samples(self) -> Iterator[Sample]:
        """Yield everything that was counted."""
        with self._lock:
            values, parts = dict(self._values), {k: list(v) for k, v in self._parts.items()}
        for (name, told), value in sorted(values.items()):
            yield name, dict(zip(REGISTRY[name].labels, told, strict=True)), value
        for (name, told), found in sorted(parts.items()):
            yield from _histogram_samples(REGISTRY[name], told, found)


def _key(metric: Metric, labels: Mapping[str, str]) -> _Key:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}")
    return metric.name, tuple(labels[name] for name in metric.labels)


def _histogram_samples(
    metric: Metric, told: tuple[str, ...], parts: list[float]
) -> Iterator[Sample]:
    labels = dict(zip(metric.labels, told, strict=True))
    below = 0.0
    for bound, number in zip((*metric.buckets, math.inf), parts[:-1], strict=True):
        below += number
        yield f"{metric.name}_bucket", {**labels, "le": _number(bound)}, below
    yield f"{metric.name}_sum", labels, parts[-1]
    yield f"{metric.name}_count", labels, below


#: Of this process: its replicas are told apart by whoever scrapes them.
METERS = Meters()
_UNTIMED = nullcontext()


def timed(metric: Metric, **labels: str) -> AbstractContextManager[None]:
    """Observe how long the block takes, whatever it raises; nothing without a stopwatch."""
    stopwatch = METERS.stopwatch
    return _UNTIMED if stopwatch is None else _timed(stopwatch, metric, labels)


@contextmanager
def _timed(
    stopwatch: Callable[[], float], metric: Metric, labels: Mapping[str, str]
) -> Iterator[None]:
    began_s = stopwatch()
    try:
        yield
    finally:
        METERS.observe(metric, stopwatch() - began_s, **labels)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def family_of(name: str) -> Metric:
    """Return the metric that a sample is of. Raises: KeyError for what is not in the registry."""
    if name in REGISTRY:
        return REGISTRY[name]
    return REGISTRY[name.removesuffix(f"_{name.rpartition('_')[2]}")]


def spell(samples: Iterable[Sample]) -> str:
    """Return samples in Prometheus' text format: each family together, with its help and type.

    Raises: KeyError for a name that is not in the registry.
    """
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        metric = family_of(name)
        if metric.name not in families:
            families[metric.name] = [
                f"# HELP {metric.name} {_escaped_help(metric.help)}",
                f"# TYPE {metric.name} {metric.kind}",
            ]
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        told = f"{name}{{{inner}}}" if inner else name
        families[metric.name].append(f"{told} {_number(value)}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _number(value: float) -> str:
    """Return a number exactly; a large one is not rounded to six digits."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    whole = float(value).is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
