"""Say what an hour of something that exists costs: pure. None where a price is not known."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import Any

from webhook_server.providers.gcp_machines import boot_disk_type, gpu_of, region_of
from webhook_server.providers.gcp_prices import ADDRESS_USD, PriceTable

# These pay for their disks alone: https://cloud.google.com/compute/docs/instances/instance-lifecycle
_WITHOUT_MACHINE = ("TERMINATED", "STOPPED", "SUSPENDED")
_UNIT = Decimal("0.000001")


def instance_usd(zone: str, resource: Mapping[str, Any], prices: PriceTable) -> Decimal | None:
    """Return USD per hour of an instance with its disks, GPUs and addresses."""
    region, machine = region_of(zone), _last(resource.get("machineType", ""))
    total = sum(
        (
            prices.disk(region, boot_disk_type(machine), int(disk.get("diskSizeGb", 0)))
            for disk in resource.get("disks", ())
        ),
        Decimal(0),
    )
    if resource.get("status") in _WITHOUT_MACHINE:
        return total.quantize(_UNIT, ROUND_UP)
    spot = resource.get("scheduling", {}).get("provisioningModel") == "SPOT"
    host = prices.machine(region, machine, spot=spot)
    gpus = _gpus_usd(region, resource, prices, spot=spot) if machine.startswith("n1-") else 0
    if host is None or gpus is None:
        return None
    addresses = sum(len(i.get("accessConfigs", ())) for i in resource.get("networkInterfaces", ()))
    return (total + host + gpus + addresses * ADDRESS_USD).quantize(_UNIT, ROUND_UP)


def _gpus_usd(
    region: str, resource: Mapping[str, Any], prices: PriceTable, *, spot: bool
) -> Decimal | None:
    total = Decimal(0)
    for held in resource.get("guestAccelerators", ()):
        gpu = gpu_of(_last(held["acceleratorType"]))
        usd = prices.gpus(region, gpu, int(held["acceleratorCount"]), spot=spot) if gpu else None
        if usd is None:
            return None
        total += usd
    return total


def disk_usd(zone: str, resource: Mapping[str, Any], prices: PriceTable) -> Decimal:
    """Return USD per hour of a disk that nobody has."""
    size = int(resource.get("sizeGb", 0))
    usd = prices.disk(region_of(zone), _last(resource.get("type", "")), size)
    return usd.quantize(_UNIT, ROUND_UP)


def _last(url: str) -> str:
    return url.rpartition("/")[2]
