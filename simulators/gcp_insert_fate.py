"""What goes wrong with an order that was taken: quotas, and the faults that were switched on."""

from __future__ import annotations

from typing import Any

from simulators import gcp_quotas
from simulators.gcp_http import GoogleError
from simulators.gcp_state import Doc
from simulators.gcp_wish import Wish
from simulators.gcp_world import World

# Kinds of /_sim/faults that strike an insert; docs/gcp_simulator.md describes them.
KINDS = ("stockout", "quota", "insert_fails")
STOCKOUT = "ZONE_RESOURCE_POOL_EXHAUSTED"
_WHERE = {
    "REGION_RESOURCE_POOL_EXHAUSTED": "region",
    "REGION_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": "region",
}


def facts(wish: Wish) -> Doc:
    """Return what the faults of an order are matched with."""
    model, count = wish.gpus()
    return {
        "verb": "compute.instances.insert",
        "name": wish.body["name"],
        "zone": wish.zone,
        "region": wish.region,
        "machine_type": wish.machine().name,
        "accelerator": model,
        "gpus": count,
        "spot": str(wish.spot).lower(),
    }


def failure_of(world: World, wish: Wish, instance: Doc) -> Doc | None:
    """Return how the operation will fail, or None.

    Raises GoogleError 403 where a lack of quota is told at once (setting `quota_answer: http`).
    """
    fault = world.faults.take(KINDS, facts(wish))
    if fault is None:
        short = gcp_quotas.shortage(world, instance)
        return _no_quota(world, *short, how="") if short else None
    match fault["kind"]:
        case "stockout":
            return _stockout(wish, fault)
        case "quota":
            region = gcp_quotas.EVERYWHERE if fault.get("global") else wish.region
            metric = fault.get("metric") or _metric(wish, everywhere=bool(fault.get("global")))
            most = float(fault.get("limit", 0))
            return _no_quota(world, metric, region, most, how=fault.get("answer", ""))
        case _:
            return {
                "code": fault.get("code", "RESOURCE_NOT_FOUND"),
                "message": fault.get(
                    "message", f"The resource '{instance['selfLink']}' was not found"
                ),
                "http": fault.get("http", 404),
                "details": fault.get("details") or [],
                "leaves": fault.get("leaves", "nothing"),
            }


def _metric(wish: Wish, *, everywhere: bool) -> str:
    model, _ = wish.gpus()
    if everywhere:
        return "GPUS_ALL_REGIONS"
    return gcp_quotas.gpu_metric(model, spot=wish.spot) if model else "CPUS"


def _no_quota(world: World, metric: str, place: str, most: float, *, how: str) -> Doc:
    text = gcp_quotas.message(metric, place, most)
    if (how or world.store.setting("quota_answer", "operation")) == "http":
        raise GoogleError(403, text, reason="quotaExceeded")
    return {
        "code": "QUOTA_EXCEEDED",
        "message": text,
        "http": 403,
        "details": gcp_quotas.details(metric, place, most),
    }


def _stockout(wish: Wish, fault: Doc) -> Doc:
    detailed = bool(fault.get("details"))
    code: str = fault.get("code") or STOCKOUT + ("_WITH_DETAILS" if detailed else "")
    where = _WHERE.get(code, "zone")
    place = wish.region if where == "region" else wish.zone
    message = (
        f"The {where} 'projects/{wish.project}/{where}s/{place}' does not have enough resources "
        "available to fulfill the request."
    )
    if not detailed:
        message += "  Try a different zone, or try again later."
    return {
        "code": code,
        "message": fault.get("message", message),
        "http": 503,
        "details": _stockout_details(wish, fault.get("zones") or []) if detailed else [],
        "leaves": fault.get("leaves", "nothing"),
    }


def _stockout_details(wish: Wish, zones: list[str]) -> list[Doc]:
    """As printed in cockroachdb/cockroach pkg/roachprod/vm/gce, from a real answer."""
    machine = wish.machine().name
    text = f"A {machine} VM instance is currently unavailable in the {wish.zone} zone. "
    metadatas: dict[str, Any] = {"vmType": machine, "zone": wish.zone}
    model, count = wish.gpus()
    if model and not wish.machine().accelerator:
        metadatas["attachment"] = f"{model}:{count}"
    if zones:
        text += (
            f"Consider trying your request in the {', '.join(zones)} zone(s), which currently has "
            "capacity to accommodate your request."
        )
        metadatas["zonesAvailable"] = ",".join(zones)
    else:
        text += "Consider trying your request in another zone, or at another time."
        metadatas["zonesAvailable"] = ""
    return [
        {"localizedMessage": {"locale": "en-US", "message": text}},
        {
            "errorInfo": {
                "domain": "compute.googleapis.com",
                "reason": "resource_availability",
                "metadatas": metadatas,
            }
        },
    ]
