"""Quotas of the simulated Compute Engine, counted over the instances that live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from simulators.gcp_catalogue import ACCELERATORS, MachineType, machine_types, region_of
from simulators.gcp_compute_shapes import last
from simulators.gcp_state import Doc
from simulators.gcp_world import World

EVERYWHERE = "global"
# Limits that stand in nobody's way; POST /_sim/quotas sets others.
_USUAL = {
    "CPUS": 10_000.0,
    "PREEMPTIBLE_CPUS": 0.0,  # as in a new project: Spot then counts against CPUS
    "DISKS_TOTAL_GB": 409_600.0,
    "SSD_TOTAL_GB": 409_600.0,
    "INSTANCES": 6_000.0,
    "IN_USE_ADDRESSES": 575.0,
    "STATIC_ADDRESSES": 100.0,
    "LOCAL_SSD_TOTAL_GB": 100_000.0,
    "GPUS_ALL_REGIONS": 1_024.0,
}
_USUAL_GPUS = 512.0
_GPU_METRICS = [each.quota for each in ACCELERATORS.values() if each.quota]
REGIONAL = (
    *(name for name in _USUAL if name != "GPUS_ALL_REGIONS"),
    *_GPU_METRICS,
    *(f"PREEMPTIBLE_{name}" for name in _GPU_METRICS),
)
# An instance that is stopped gives its processors and GPUs back, not its disks.
_HOLDING = {"PROVISIONING", "STAGING", "RUNNING", "STOPPING", "SUSPENDING", "REPAIRING"}


def limit(world: World, region: str, metric: str) -> float:
    """Return how much of a metric may be used in a region, or everywhere (`global`)."""
    usual = _USUAL.get(metric, _USUAL_GPUS)
    doc = world.store.get("quota", f"{region}/{metric}")
    return usual if doc is None else float(doc["limit"])


def set_limit(world: World, region: str, metric: str, value: float) -> None:
    """Set a limit."""
    world.store.put("quota", f"{region}/{metric}", {"limit": value})


def usage(world: World, region: str) -> dict[str, float]:
    """Return what is used of every metric in a region, or everywhere (`global`)."""
    used: dict[str, float] = {}
    for doc in world.store.all("instance").values():
        if region in (EVERYWHERE, region_of(last(doc["zone"]))):
            for metric, amount in _needs(world, doc, region):
                used[metric] = used.get(metric, 0.0) + amount
    for doc in world.store.all("disk").values():
        if region in (EVERYWHERE, region_of(last(doc["zone"]))):
            metric = "DISKS_TOTAL_GB" if doc["type"].endswith("pd-standard") else "SSD_TOTAL_GB"
            used[metric] = used.get(metric, 0.0) + float(doc["sizeGb"])
    return used


def _needs(world: World, doc: Doc, region: str) -> Iterator[tuple[str, float]]:
    yield "INSTANCES", 1.0
    if doc["status"] in _HOLDING:
        yield from needs(world, doc, region)


def needs(world: World, instance: Doc, region: str) -> Iterator[tuple[str, float]]:
    """Yield what a running instance takes of each metric of a region, or of the global ones."""
    machine = machine_types()[last(instance["machineType"])]
    gpus = sum(int(each["acceleratorCount"]) for each in instance.get("guestAccelerators", []))
    if region == EVERYWHERE:
        if gpus:
            yield "GPUS_ALL_REGIONS", float(gpus)
        return
    spot = instance.get("scheduling", {}).get("preemptible", False)
    yield _cpus(world, region, spot=spot), float(machine.cpus)
    for each in instance.get("guestAccelerators", []):
        metric = gpu_metric(last(each["acceleratorType"]), spot=spot)
        yield metric, float(each["acceleratorCount"])
    if any(each.get("accessConfigs") for each in instance.get("networkInterfaces", [])):
        yield "IN_USE_ADDRESSES", 1.0
    yield from _local_ssds(machine, instance)


def _local_ssds(machine: MachineType, instance: Doc) -> Iterator[tuple[str, float]]:
    scratch = [each for each in instance.get("disks", []) if each.get("type") == "SCRATCH"]
    if machine.bundled_ssds or scratch:
        yield "LOCAL_SSD_TOTAL_GB", 375.0 * max(machine.bundled_ssds, len(scratch))


def _cpus(world: World, region: str, *, spot: bool) -> str:
    # https://cloud.google.com/compute/resource-usage: a project that was granted preemptible
    # quota must use it for Spot; any other uses the standard one.
    granted = spot and limit(world, region, "PREEMPTIBLE_CPUS") > 0
    return "PREEMPTIBLE_CPUS" if granted else "CPUS"


def gpu_metric(accelerator: str, *, spot: bool) -> str:
    """Return the metric that a model counts against.

    Models without a metric of their own are limited all the same, but no list tells how far.
    """
    known = ACCELERATORS[accelerator].quota
    if not known:
        return f"GPUS-PER-GPU-FAMILY-per-project-region/{accelerator}"
    return f"PREEMPTIBLE_{known}" if spot else known


def shortage(world: World, instance: Doc) -> tuple[str, str, float] | None:
    """Return the metric, the region and the limit that stand against one more instance."""
    region = region_of(last(instance["zone"]))
    for place in (EVERYWHERE, region):
        used = usage(world, place)
        wanted: dict[str, float] = {"INSTANCES": 1.0} if place == region else {}
        for metric, amount in needs(world, instance, place):
            wanted[metric] = wanted.get(metric, 0.0) + amount
        for metric, amount in wanted.items():
            most = limit(world, place, metric)
            if used.get(metric, 0.0) + amount > most:
                return metric, place, most
    return None


def message(metric: str, place: str, most: float) -> str:
    """Return the sentence of a quota error."""
    where = "globally" if place == EVERYWHERE else f"in region {place}"
    return f"Quota '{metric}' exceeded.  Limit: {most} {where}."


def details(metric: str, place: str, most: float) -> list[Doc]:
    """Return `errorDetails` of a quota error."""
    scope = "project" if place == EVERYWHERE else "project-region"
    return [
        {
            "quotaInfo": {
                "metricName": f"compute.googleapis.com/{metric.partition('/')[0].lower()}",
                "limitName": f"{metric.partition('/')[0].replace('_', '-')}-per-{scope}",
                "dimensions": {"region": place},
                "limit": most,
            }
        }
    ]


def listed(world: World, place: str) -> list[Mapping[str, object]]:
    """Return the quotas as regions and projects show them."""
    used = usage(world, place)
    metrics = ("GPUS_ALL_REGIONS",) if place == EVERYWHERE else REGIONAL
    return [
        {"metric": name, "limit": limit(world, place, name), "usage": used.get(name, 0.0)}
        for name in metrics
    ]
