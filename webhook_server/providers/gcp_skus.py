"""Work out what machines cost from the Cloud Billing Catalog, which sells cores, memory and GPUs.

The service is Compute Engine, https://cloud.google.com/skus; the descriptions are the only key
from an entry to a machine family, as the public price tools use them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from webhook_server.providers.gcp_machines import GIB, MachineType
from webhook_server.providers.gcp_prices import Rate

COMPUTE_ENGINE = "6F81-5844-456A"  # its service id in the catalogue
_NANOS = Decimal(1_000_000_000)

_FAMILY = {
    "a2": "A2 Instance",
    "a3": "A3 Instance",
    "a4": "A4 Instance",
    "e2": "E2 Instance",
    "g2": "G2 Instance",
    "g4": "G4 Instance",
    "n1": "N1 Predefined Instance",
}
_GPU = {
    "nvidia-tesla-t4": ("Nvidia Tesla T4 GPU",),
    "nvidia-tesla-p4": ("Nvidia Tesla P4 GPU",),
    "nvidia-tesla-p100": ("Nvidia Tesla P100 GPU",),
    "nvidia-tesla-v100": ("Nvidia Tesla V100 GPU",),
    "nvidia-l4": ("Nvidia L4 GPU",),
    "nvidia-rtx-pro-6000": ("RTX 6000", "RTX PRO 6000"),
    "nvidia-tesla-a100": ("Nvidia Tesla A100 GPU", "A100 40GB GPU"),
    "nvidia-a100-80gb": ("A100 80GB GPU",),
    "nvidia-h100-80gb": ("H100 80GB GPU",),
    "nvidia-h100-mega-80gb": ("H100 80GB Mega GPU", "H100 Mega 80GB GPU", "H100 80GB Plus GPU"),
    "nvidia-h200-141gb": ("H200 141GB GPU",),
    "nvidia-b200": ("Nvidia B200 (1 gpu slice)", "B200 GPU"),
}
_DISK = {
    "pd-balanced": "Balanced PD Capacity",
    "pd-ssd": "SSD backed PD Capacity",
    "pd-standard": "Storage PD Capacity",
    "hyperdisk-balanced": "Hyperdisk Balanced Capacity",
}
# Sold beside the plain thing under almost the same words.
_OTHER = re.compile(
    r"custom|premium|reserved|sole tenancy|commitment|dws|calendar|regional|high availability"
    r"|confidential|storage pool|extended|vws|workstation",
    re.IGNORECASE,
)
_WAYS = {"OnDemand": False, "Preemptible": True}  # usageType → Spot


@dataclass
class _Parts:
    """USD per hour of one region's parts, sold one way."""

    core: dict[str, Decimal] = field(default_factory=dict)  # by family
    gib: dict[str, Decimal] = field(default_factory=dict)
    gpu: dict[str, Decimal] = field(default_factory=dict)  # by accelerator
    disk: dict[str, Decimal] = field(default_factory=dict)  # by type, for a month


def rates(
    skus: Iterable[Mapping[str, Any]], shapes: Iterable[MachineType]
) -> Iterator[tuple[str, str, Rate]]:
    """Return (region, thing, rate) for all that the catalogue prices completely.

    A machine of which one part has no price is left out: half a price is a wrong one.
    """
    parts = _parts(skus)
    shapes = tuple(shapes)
    for region in sorted({region for region, _ in parts}):
        usual = parts.get((region, False), _Parts())
        spot = parts.get((region, True), _Parts())
        for shape in shapes:
            yield from _row(region, shape.name, _machine(usual, shape), _machine(spot, shape))
        for name in _GPU:
            yield from _row(region, f"gpu:{name}", usual.gpu.get(name), spot.gpu.get(name))
        for name in _DISK:
            yield from _row(region, f"disk:{name}", usual.disk.get(name), None)


def _row(
    region: str, thing: str, usd: Decimal | None, usd_spot: Decimal | None
) -> Iterator[tuple[str, str, Rate]]:
    if usd is not None or usd_spot is not None:
        yield region, thing, Rate(usd=usd, usd_spot=usd_spot)


def _machine(parts: _Parts, shape: MachineType) -> Decimal | None:
    family = shape.name.partition("-")[0]
    core, gib = parts.core.get(family), parts.gib.get(family)
    if core is None or gib is None:
        return None
    host = core * shape.cpu + gib * shape.memory_bytes / GIB
    if shape.accelerator is None:
        return host
    gpu = parts.gpu.get(shape.accelerator)
    return None if gpu is None else host + gpu * shape.gpu_count


def _parts(skus: Iterable[Mapping[str, Any]]) -> dict[tuple[str, bool], _Parts]:
    found: dict[tuple[str, bool], _Parts] = {}
    for sku in skus:
        spot = _WAYS.get(sku["category"].get("usageType", ""))
        usd = _usd(sku)
        if spot is None or usd is None or _OTHER.search(sku["description"]):
            continue
        for region in sku.get("serviceRegions", ()):
            _put(found.setdefault((region, spot), _Parts()), sku, usd)
    return found


def _put(parts: _Parts, sku: Mapping[str, Any], usd: Decimal) -> None:
    """Keep one price. Of two that bear the same words the higher counts: limits must hold."""
    text, group = sku["description"], sku["category"].get("resourceGroup", "")
    if group == "GPU":
        for name, words in _GPU.items():
            if any(word in text for word in words):
                parts.gpu[name] = max(usd, parts.gpu.get(name, usd))
        return
    for name, word in _DISK.items():
        if text.startswith(word):
            parts.disk[name] = max(usd, parts.disk.get(name, usd))
    for family, word in _FAMILY.items():
        if f"{word} Core" in text:
            parts.core[family] = max(usd, parts.core.get(family, usd))
        elif f"{word} Ram" in text:
            parts.gib[family] = max(usd, parts.gib.get(family, usd))


def _usd(sku: Mapping[str, Any]) -> Decimal | None:
    """Return the price of the newest entry's last tier; the first may be a free allowance."""
    try:
        price = sku["pricingInfo"][-1]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
        return Decimal(int(price.get("units", 0))) + int(price.get("nanos", 0)) / _NANOS
    except (KeyError, IndexError, TypeError, ValueError):
        return None
