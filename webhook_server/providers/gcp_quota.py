"""Look up whether the account may have more, before it is tried in vain: pure.

https://cloud.google.com/compute/resource-usage. H100 and later models have no metric in the lists:
what is not listed is not known, and then only the order itself tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from webhook_server.providers.gcp_machines import Gpu
from webhook_server.providers.provider import Scope


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One limit with what of it is used."""

    metric: str
    limit: float
    usage: float

    @property
    def free(self) -> float:
        """Return what may still be had."""
        return max(0.0, self.limit - self.usage)

    def __str__(self) -> str:
        return f"{self.free:g} of {self.limit:g} {self.metric} free"


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """All limits of an account."""

    regions: Mapping[str, Mapping[str, Quota]]
    project: Mapping[str, Quota]  # over all regions together

    def of(self, scope: Scope, region: str, metric: str) -> Quota | None:
        """Return a limit, or None where none is told."""
        held = self.project if scope is Scope.EVERYWHERE else self.regions.get(region, {})
        return held.get(metric)


NONE_TOLD = Quotas(regions={}, project={})


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What an order takes of one quota: of the first metric with a limit above zero."""

    metrics: tuple[str, ...]
    amount: float
    scope: Scope = Scope.REGION


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the quotas say of an order; `text` shows the scarcest."""

    text: str = ""
    lacking: Quota | None = None
    scope: Scope = Scope.REGION
    never: bool = False  # the limit itself is too small: waiting does not help


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What counts against quotas in one instance."""

    family: str  # "n1", "g2"
    cpu: int
    gpu: Gpu | None
    gpu_count: int
    disk_type: str
    disk_gib: int
    spot: bool
    address: bool  # has an external one
    instances: int = 1  # of a gang


def read_quotas(regions: Iterable[Mapping[str, Any]], project: Mapping[str, Any] | None) -> Quotas:
    """Return the quotas told by regions.list and projects.get."""
    return Quotas(
        regions={region["name"]: _quotas(region) for region in regions},
        project=_quotas(project or {}),
    )


def _quotas(resource: Mapping[str, Any]) -> dict[str, Quota]:
    return {
        entry["metric"]: Quota(
            metric=entry["metric"],
            limit=float(entry.get("limit", 0)),
            usage=float(entry.get("usage", 0)),
        )
        for entry in resource.get("quotas", [])
        if "metric" in entry
    }


def demands(wanted: Wanted) -> tuple[Demand, ...]:
    """Return what an order takes, GPUs first."""
    number = wanted.instances
    found = [
        Demand(metrics=("INSTANCES",), amount=number),
        Demand(metrics=_disk_metrics(wanted.disk_type), amount=wanted.disk_gib * number),
    ]
    if wanted.address:
        found.append(Demand(metrics=("IN_USE_ADDRESSES",), amount=number))
    found += _cpu_demands(wanted)
    return (*_gpu_demands(wanted), *found)


def _gpu_demands(wanted: Wanted) -> tuple[Demand, ...]:
    if wanted.gpu is None:
        return ()
    amount = wanted.gpu_count * wanted.instances
    return (
        Demand(metrics=_either(wanted.gpu.quota, spot=wanted.spot), amount=amount),
        Demand(metrics=("GPUS_ALL_REGIONS",), amount=amount, scope=Scope.EVERYWHERE),
    )


def _cpu_demands(wanted: Wanted) -> tuple[Demand, ...]:
    """Return none for the families whose GPUs alone are limited."""
    if wanted.family not in ("n1", "e2", "a2"):
        return ()
    metric = "A2_CPUS" if wanted.family == "a2" else "CPUS"
    cpus = wanted.cpu * wanted.instances
    metrics = _either("CPUS", spot=wanted.spot) if metric == "CPUS" else (metric,)
    return (
        Demand(metrics=metrics, amount=cpus),
        Demand(metrics=("CPUS_ALL_REGIONS",), amount=cpus, scope=Scope.EVERYWHERE),
    )


def _either(metric: str, *, spot: bool) -> tuple[str, ...]:
    # Who never asked for a preemptible quota has Spot instances count against the usual one:
    # https://cloud.google.com/compute/resource-usage#preemptible_quotas
    return (f"PREEMPTIBLE_{metric}", metric) if spot else (metric,)


def _disk_metrics(disk_type: str) -> tuple[str, ...]:
    if disk_type.startswith("hyperdisk"):
        return ("HDB_TOTAL_GB",)
    return ("DISKS_TOTAL_GB",) if disk_type == "pd-standard" else ("SSD_TOTAL_GB",)


def judge(quotas: Quotas, region: str, wanted: Wanted) -> Verdict:
    """Return whether the account may have it, and which quota says no."""
    told: list[tuple[float, Quota]] = []
    lacking: list[tuple[Quota, Demand]] = []
    for demand in demands(wanted):
        quota = _that_counts(quotas, region, demand)
        if quota is None:
            continue
        if "GPUS" in quota.metric or "CPUS" in quota.metric:
            told.append((quota.free / demand.amount, quota))
        if quota.free < demand.amount:
            lacking.append((quota, demand))
    text = str(min(told, key=lambda pair: pair[0])[1]) if told else ""
    if not lacking:
        return Verdict(text=text)
    # A limit that is too small says more than one that is only used up.
    lacking.sort(key=lambda pair: pair[0].limit >= pair[1].amount)
    quota, demand = lacking[0]
    return Verdict(text=text, lacking=quota, scope=demand.scope, never=quota.limit < demand.amount)


def _that_counts(quotas: Quotas, region: str, demand: Demand) -> Quota | None:
    told = [quotas.of(demand.scope, region, metric) for metric in demand.metrics]
    known = [quota for quota in told if quota is not None]
    return next((quota for quota in known if quota.limit > 0), known[0] if known else None)
