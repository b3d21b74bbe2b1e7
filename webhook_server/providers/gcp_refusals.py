"""Say what Compute Engine's errors mean for an order, and how far they reach: pure.

https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webhook_server.providers.gcp_client import ApiError
from webhook_server.providers.provider import (
    Misconfigured,
    NoCapacity,
    ProviderRefusal,
    ProviderUnavailable,
    QuotaExceeded,
    Scope,
)

# Codes of failed operations and reasons of refused requests, in one table: both occur both ways.
_STOCKOUT: Mapping[str, Scope] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": Scope.ZONE,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": Scope.ZONE,
    "RESOURCE_POOL_EXHAUSTED": Scope.ZONE,
    "GPU_STOCKOUT": Scope.ZONE,
    "STOCKOUT": Scope.ZONE,
    "insufficientCapacity": Scope.ZONE,
    "VM_MIN_COUNT_NOT_REACHED": Scope.ZONE,
    "REGION_RESOURCE_POOL_EXHAUSTED": Scope.REGION,
    # May hide want of capacity; seen when an instance was preempted while it was made.
    "RESOURCE_NOT_FOUND": Scope.ZONE,
    "UNSUPPORTED_OPERATION": Scope.ZONE,
    # A subnetwork is full: it spans its region.
    "IP_SPACE_EXHAUSTED": Scope.REGION,
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": Scope.REGION,
}
_QUOTA = ("QUOTA_EXCEEDED", "quotaExceeded")
_LATER = (
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "RATE_LIMIT_EXCEEDED",
    "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED",  # of requests under way, not of what is lent
    "RESOURCE_NOT_READY",
    "resourceNotReady",
    "RESOURCE_OPERATION_RATE_EXCEEDED",
)
_PREEMPTED = re.compile(r"failed to start due to preemption", re.IGNORECASE)
_METRIC = re.compile(r"[Qq]uota\s+'?([A-Z0-9_]+)'?")
_MISSING = re.compile(r"/(machineTypes|acceleratorTypes|diskTypes)/")
_TOO_MANY, _BAD_REQUEST, _NOT_FOUND, _SERVER = 429, 400, 404, 500  # HTTP


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """One error, whether it came as a refused request or a failed operation."""

    codes: tuple[str, ...]
    text: str
    status: int | None
    elsewhere: tuple[str, ...] = ()
    quota: str = ""


def of_order(error: ApiError, zone: str) -> ProviderRefusal:
    """Return what a refused insert means."""
    fault = _Fault(codes=error.reasons, text=str(error), status=error.status)
    return _meaning(fault, zone)


def of_operation(operation: Mapping[str, Any], zone: str) -> ProviderRefusal:
    """Return what a failed insert operation means."""
    return _meaning(_fault_of(operation), zone)


def of_reading(error: ApiError, what: str) -> ProviderRefusal:
    """Return what a refused get, list or delete means: nothing is known, whatever was said.

    Never Misconfigured: that an account lost its rights ends no instance that it ordered.
    """
    status = f"HTTP {error.status}: " if error.status else ""
    return ProviderUnavailable(f"Google Cloud, {what}: {status}{error}")


def failed(operation: Mapping[str, Any]) -> bool:
    """Say whether an operation has ended without its effect."""
    return operation.get("status") == "DONE" and bool(_errors(operation))


def was_preempted(operation: Mapping[str, Any]) -> bool:
    """Say whether an insert failed because its instance was taken back while it started.

    That says nothing of what the zone has in stock.
    """
    return any(
        error.get("code") == "PREEMPTED" or _PREEMPTED.search(error.get("message", ""))
        for error in _errors(operation)
    )


def _errors(operation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors: list[Mapping[str, Any]] = operation.get("error", {}).get("errors", [])
    return errors


def _fault_of(operation: Mapping[str, Any]) -> _Fault:
    errors = _errors(operation)
    details = [detail for error in errors for detail in error.get("errorDetails", ())]
    status = operation.get("httpErrorStatusCode")
    quota: Mapping[str, Any] = next((d["quotaInfo"] for d in details if "quotaInfo" in d), {})
    return _Fault(
        codes=tuple(str(error.get("code", "")) for error in errors),
        text="; ".join(str(error.get("message") or error.get("code")) for error in errors),
        status=int(status) if status else None,
        elsewhere=tuple(_zones_available(details)),
        quota=str(quota.get("limitName") or quota.get("metricName") or ""),
    )


def _zones_available(details: list[Mapping[str, Any]]) -> Iterator[str]:
    """Return the zones that, says a stockout's detail, have what this one lacks."""
    for detail in details:
        told = detail.get("errorInfo", {}).get("metadatas", {}).get("zonesAvailable", "")
        yield from (zone.strip() for zone in told.split(",") if zone.strip())


def _meaning(fault: _Fault, zone: str) -> ProviderRefusal:
    for code in fault.codes:
        if code in _STOCKOUT:
            return NoCapacity(
                f"{zone}: {fault.text}", scope=_STOCKOUT[code], elsewhere=fault.elsewhere
            )
        if code in _QUOTA:
            return _quota(fault, zone)
        if code in _LATER:
            return ProviderUnavailable(f"{zone}: {fault.text}")
    return _meaning_of_status(fault, zone)


def _quota(fault: _Fault, zone: str) -> ProviderRefusal:
    found = _METRIC.search(fault.text)
    metric = found.group(1) if found else fault.quota or "a quota"
    everywhere = "ALL_REGIONS" in f"{fault.text}{fault.quota}"
    return QuotaExceeded(
        f"{zone}: {metric} is used up: {fault.text}. Ask Google for more, or name another place.",
        scope=Scope.EVERYWHERE if everywhere else Scope.REGION,
    )


def _meaning_of_status(fault: _Fault, zone: str) -> ProviderRefusal:
    status = fault.status
    if status is None or status == _TOO_MANY or status >= _SERVER:
        return ProviderUnavailable(f"{zone}: {fault.text}")
    if status == _NOT_FOUND and _MISSING.search(fault.text):
        return NoCapacity(f"{zone}: {fault.text}", scope=Scope.ZONE)
    if status == _BAD_REQUEST:
        return Misconfigured(f"{zone}: Google Cloud finds fault with the order: {fault.text}")
    return Misconfigured(f"{zone}: Google Cloud refuses (HTTP {status}): {fault.text}")
