"""What Google sells of Compute Engine, part by part, such that the parts make the machines' prices.

A machine's price is what the table in `gcp_data` says; cores and memory take the shares that they
had in us-central1's published price list, and the GPU is what is left. Attached GPUs and disks:
kubernetes/autoscaler `gce_price_info.go` (us-central1), taken for every region.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from simulators.gcp_catalogue import ACCELERATORS, machine_types, prices, zones
from simulators.gcp_state import Doc

SERVICE = "services/6F81-5844-456A"  # Compute Engine, https://cloud.google.com/skus
_SINCE = "2026-08-03T00:00:00Z"  # of the price table
# GB of memory cost this part of a core: A2 in us-central1, 0.004237 and 0.031611 USD.
_RAM_SHARE = 0.13403
# What a core is of the smallest whole machine, where no second size tells: A2 as above; A3 and
# G4 have faster cards beside like cores.
_CORE_SHARES = {
    "a2-highgpu-1g": 0.0086053,
    "a2-ultragpu-1g": 0.0062364,
    "a3": 0.00265,
    "g4": 0.0055,
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that is sold in one region."""

    text: str  # without the place
    region: str
    group: str
    spot: bool
    usd: float
    unit: str = "h"


@dataclass(frozen=True, kw_only=True)
class _Family:
    """How a family's cores are called, and which machines tell their price."""

    words: str
    machine: str  # its price, less cores and memory, is that of its GPUs
    second: str = ""  # with more cores or memory for as many GPUs


_FAMILIES = (
    _Family(words="N1 Predefined Instance", machine="n1-standard-4", second="n1-highmem-4"),
    _Family(words="E2 Instance", machine="e2-standard-4", second="e2-highmem-4"),
    _Family(words="G2 Instance", machine="g2-standard-4", second="g2-standard-8"),
    _Family(words="G4 Instance", machine="g4-standard-48"),
    _Family(words="A2 Instance", machine="a2-highgpu-1g"),
    _Family(words="A2 Instance", machine="a2-ultragpu-1g"),
    _Family(words="A3 Instance", machine="a3-highgpu-1g"),
    _Family(words="A3Plus Instance", machine="a3-megagpu-8g"),
)
_GPU_WORDS = {
    "nvidia-l4": "Nvidia L4 GPU",
    "nvidia-rtx-pro-6000": "Nvidia RTX PRO 6000 GPU",
    "nvidia-tesla-a100": "Nvidia Tesla A100 GPU",
    "nvidia-a100-80gb": "Nvidia Tesla A100 80GB GPU",
    "nvidia-h100-80gb": "Nvidia H100 80GB GPU",
    "nvidia-h100-mega-80gb": "Nvidia H100 80GB Plus GPU",
    "nvidia-tesla-t4": "Nvidia Tesla T4 GPU",
    "nvidia-tesla-p4": "Nvidia Tesla P4 GPU",
    "nvidia-tesla-v100": "Nvidia Tesla V100 GPU",
    "nvidia-tesla-p100": "Nvidia Tesla P100 GPU",
}
# USD an hour, on demand and Spot.
_ATTACHED = {
    "nvidia-tesla-t4": (0.35, 0.11),
    "nvidia-tesla-p4": (0.60, 0.216),
    "nvidia-tesla-v100": (2.48, 0.74),
    "nvidia-tesla-p100": (1.46, 0.43),
}
# USD for a GB and a month.
_DISKS = {
    "Balanced PD Capacity": 0.10,
    "SSD backed PD Capacity": 0.17,
    "Storage PD Capacity": 0.04,
    "Hyperdisk Balanced Capacity": 0.08,
}
_PLACES = {
    "us-central1": "Americas",
    "us-east1": "Americas",
    "us-west1": "Americas",
    "us-east4": "Virginia",
    "europe-west1": "EMEA",
    "europe-west2": "London",
    "europe-west3": "Frankfurt",
    "europe-west4": "Netherlands",
    "asia-east1": "APAC",
    "asia-northeast1": "Japan",
    "asia-southeast1": "Singapore",
}


@cache
def skus() -> tuple[Doc, ...]:
    """Return everything that is sold, in an order that stays."""
    return tuple(sorted((_sku(part) for part in _parts()), key=lambda sku: str(sku["skuId"])))


def _parts() -> Iterator[Part]:
    for region in zones():
        for spot in (False, True):
            yield from _machines(region, spot=spot)
            yield from _attached(region, spot=spot)
        for text, usd in _DISKS.items():
            yield Part(text=text, region=region, group="SSD", spot=False, usd=usd, unit="GiBy.mo")


def _machines(region: str, *, spot: bool) -> Iterator[Part]:
    known: dict[str, tuple[float, float]] = {}
    for family in _FAMILIES:
        price = _price(region, family.machine, spot=spot)
        if price is None:
            continue
        if family.words not in known:  # A2 sells its cores alike, whatever the card
            known[family.words] = _host(region, family, price, spot=spot)
            yield from _cores(region, family.words, known[family.words], spot=spot)
        machine = machine_types()[family.machine]
        core, ram = known[family.words]
        rest = price - core * machine.cpus - ram * machine.memory_mb / 1024
        if machine.gpus:
            words = _GPU_WORDS[machine.accelerator]
            yield _gpu(region, words, rest / machine.gpus, spot=spot)


def _price(region: str, machine: str, *, spot: bool) -> float | None:
    found = prices().get((region, machine))
    if found is None:
        return None
    return found.spot if spot else found.on_demand


def _host(region: str, family: _Family, price: float, *, spot: bool) -> tuple[float, float]:
    """Return what a core and what a GB of memory costs an hour."""
    machine = machine_types()[family.machine]
    second = _price(region, family.second, spot=spot) if family.second else None
    if second is None:
        share = _CORE_SHARES.get(family.machine) or _CORE_SHARES[machine.family]
        core = price * share / machine.gpus
        return core, core * _RAM_SHARE
    other = machine_types()[family.second]
    cpus, memory_gb = other.cpus - machine.cpus, (other.memory_mb - machine.memory_mb) / 1024
    if cpus == 0:
        ram = (second - price) / memory_gb
        return (price - ram * machine.memory_mb / 1024) / machine.cpus, ram
    core = (second - price) / (cpus + memory_gb * _RAM_SHARE)
    return core, core * _RAM_SHARE


def _cores(region: str, words: str, usd: tuple[float, float], *, spot: bool) -> Iterator[Part]:
    start = "Spot Preemptible " if spot else ""
    groups = ("N1Standard", "N1Standard") if words.startswith("N1") else ("CPU", "RAM")
    for part, price, group, unit in zip(("Core", "Ram"), usd, groups, ("h", "GiBy.h"), strict=True):
        text = f"{start}{words} {part}"
        yield Part(text=text, region=region, group=group, spot=spot, usd=price, unit=unit)


def _attached(region: str, *, spot: bool) -> Iterator[Part]:
    for name, usd in _ATTACHED.items():
        if any(word.startswith(f"{region}-") for word in ACCELERATORS[name].zones.split()):
            yield _gpu(region, _GPU_WORDS[name], usd[spot], spot=spot)


def _gpu(region: str, words: str, usd: float, *, spot: bool) -> Part:
    text = f"{words} attached to Spot Preemptible VMs" if spot else words
    return Part(text=text, region=region, group="GPU", spot=spot, usd=usd)


_UNITS: Mapping[str, tuple[str, str, str, float]] = {
    "h": ("hour", "s", "second", 3600.0),
    "GiBy.h": ("gibibyte hour", "By.s", "byte second", 3.8654705664e12),
    "GiBy.mo": ("gibibyte month", "By.s", "byte second", 2.8759102613e15),
}


def _sku(part: Part) -> Doc:
    text = f"{part.text} running in {_PLACES.get(part.region, part.region)}"
    if part.unit == "GiBy.mo":
        text = f"{part.text} in {_PLACES.get(part.region, part.region)}"
    digits = hashlib.sha256(f"{text}/{part.region}".encode()).hexdigest().upper()
    number = f"{digits[:4]}-{digits[4:8]}-{digits[8:12]}"
    return {
        "name": f"{SERVICE}/skus/{number}",
        "skuId": number,
        "description": text,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Storage" if part.unit == "GiBy.mo" else "Compute",
            "resourceGroup": part.group,
            "usageType": "Preemptible" if part.spot else "OnDemand",
        },
        "serviceRegions": [part.region],
        "pricingInfo": [_pricing(part)],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "REGIONAL", "regions": [part.region]},
    }


def _pricing(part: Part) -> Doc:
    unit, base, base_words, factor = _UNITS[part.unit]
    nanos = round(part.usd * 10**9)
    price = {
        "currencyCode": "USD",
        "units": str(nanos // 10**9),
        "nanos": nanos % 10**9,
    }
    return {
        "summary": "",
        "effectiveTime": _SINCE,
        "currencyConversionRate": 1.0,
        "pricingExpression": {
            "usageUnit": part.unit,
            "usageUnitDescription": unit,
            "baseUnit": base,
            "baseUnitDescription": base_words,
            "baseUnitConversionFactor": factor,
            "displayQuantity": 1.0,
            "tieredRates": [{"startUsageAmount": 0.0, "unitPrice": price}],
        },
    }
