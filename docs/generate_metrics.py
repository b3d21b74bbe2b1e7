"""Write docs/metrics.md from `webhook_server.metrics.REGISTRY`."""

from __future__ import annotations

from pathlib import Path

from webhook_server.metrics import REGISTRY, Metric

PAGE = Path(__file__).parent / "metrics.md"
HEAD = """\
# Metrics

`GET /metrics` answers the operator in Prometheus' text format; give the scraper the server's
`CYNTHUS_API_TOKEN` as a bearer token. Counters and histograms are of one process, so every replica
is scraped; what is read from the database (runs, deliveries, publications, instances) is the same
on all of them: take the `max` over replicas, never the sum. No label names a run, a commit or a
person. What wakes somebody: [observability.md](observability.md).

This page is generated: change `webhook_server/metrics.py`, then run `python -m docs.generate`.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def metrics_page() -> str:
    """Return the whole page."""
    return HEAD + "".join(_row(metric) for metric in REGISTRY.values())


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n"


if __name__ == "__main__":
    PAGE.write_text(metrics_page(), "utf-8")
