"""What the simulated Compute Engine has, and where: zones, machine types, accelerators, images.

Accelerator zones as SkyPilot's catalogue v8 had them (commit 006059e0) and regions as Cyclenerd's
google-cloud-pricing-cost-calculator of 2026-08; where only regions are known, a region's first two
zones stand for it. Machine types as their families' pages list them:
https://cloud.google.com/compute/docs/gpus and .../machine-resource. Prices, and with them the
regions of hosts, as karpenter-provider-gcp recorded them on 2026-08-03 (Apache-2.0,
pkg/providers/pricing/initial-prices.json).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PRICES = Path(__file__).parent / "gcp_data/machine_prices.csv"

# Zones are a, b, c but for these: https://cloud.google.com/compute/docs/regions-zones
_ZONE_LETTERS = {"us-central1": "abcf", "us-east1": "bcd", "europe-west1": "bcd"}


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One GPU model."""

    name: str  # nvidia-l4
    shown: str  # as the API describes it
    driver: str  # as the driver names the card
    most: int  # on one instance
    quota: str = ""  # the metric; empty: it is not among a region's quotas, yet it is limited
    zones: str = ""  # region-letters, several words


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One machine type."""

    name: str
    cpus: int
    memory_mb: int
    accelerator: str = ""  # built in
    gpus: int = 0
    bundled_ssds: int = 0
    on_demand: bool = True  # False: Spot, flex-start or reservation only

    @property
    def family(self) -> str:
        """Return what stands before the first dash: n1, g2, a3."""
        return self.name.partition("-")[0]


ACCELERATORS = {
    each.name: each
    for each in (
        Accelerator(
            name="nvidia-tesla-t4",
            shown="NVIDIA T4",
            driver="Tesla T4",
            most=4,
            quota="NVIDIA_T4_GPUS",
            zones="us-central1-abcf us-east1-cd us-east4-abc us-west1-ab us-west2-bc us-west3-b"
            " us-west4-ab europe-west1-bcd europe-west2-ab europe-west3-b europe-west4-abc"
            " europe-central2-bc asia-east1-ac asia-east2-ac asia-northeast1-ac"
            " asia-northeast3-bc asia-south1-abc asia-southeast1-abc asia-southeast2-ab"
            " australia-southeast1-ac me-west1-bc northamerica-northeast1-c southamerica-east1-ac",
        ),
        Accelerator(
            name="nvidia-tesla-v100",
            shown="NVIDIA V100",
            driver="Tesla V100-SXM2-16GB",
            most=8,
            quota="NVIDIA_V100_GPUS",
            zones="asia-east1-c europe-west4-abc us-central1-abcf us-east1-c us-west1-ab",
        ),
        Accelerator(
            name="nvidia-tesla-p100",
            shown="NVIDIA Tesla P100",
            driver="Tesla P100-PCIE-16GB",
            most=4,
            quota="NVIDIA_P100_GPUS",
            zones="asia-east1-ac australia-southeast1-c europe-west1-bd europe-west4-a"
            " us-central1-cf us-east1-bc us-west1-ab",
        ),
        Accelerator(
            name="nvidia-tesla-p4",
            shown="NVIDIA Tesla P4",
            driver="Tesla P4",
            most=4,
            quota="NVIDIA_P4_GPUS",
            zones="asia-southeast1-bc australia-southeast1-ab europe-west4-bc"
            " northamerica-northeast1-abc us-central1-ac us-east4-abc us-west2-bc",
        ),
        Accelerator(
            name="nvidia-l4",
            shown="NVIDIA L4",
            driver="NVIDIA L4",
            most=8,
            quota="NVIDIA_L4_GPUS",
            zones="us-central1-abc us-east1-bd us-east4-ac us-west1-abc us-west4-ac"
            " europe-west1-bc europe-west2-ab europe-west3-ab europe-west4-abc europe-west6-bc"
            " asia-east1-abc asia-northeast1-abc asia-northeast3-ab asia-south1-ab"
            " asia-southeast1-abc me-central2-ac northamerica-northeast1-b"
            " northamerica-northeast2-ab",
        ),
        Accelerator(
            name="nvidia-rtx-pro-6000",
            shown="NVIDIA RTX PRO 6000",
            driver="NVIDIA RTX PRO 6000 Blackwell Server Edition",
            most=8,
        ),
        Accelerator(
            name="nvidia-tesla-a100",
            shown="NVIDIA A100 40GB",
            driver="NVIDIA A100-SXM4-40GB",
            most=16,
            quota="NVIDIA_A100_GPUS",
            zones="asia-northeast1-ac asia-northeast3-ab asia-southeast1-abc europe-west4-ab"
            " me-west1-ac us-central1-abcf us-east1-b us-west1-b us-west3-b us-west4-b",
        ),
        Accelerator(
            name="nvidia-a100-80gb",
            shown="NVIDIA A100 80GB",
            driver="NVIDIA A100-SXM4-80GB",
            most=8,
            quota="NVIDIA_A100_80GB_GPUS",
            zones="asia-southeast1-c europe-west4-a us-central1-ac us-east4-c us-east5-ab",
        ),
        Accelerator(
            name="nvidia-h100-80gb",
            shown="NVIDIA H100 80GB",
            driver="NVIDIA H100 80GB HBM3",
            most=8,
            zones="asia-east1-c asia-northeast1-b asia-south1-c asia-south2-b asia-southeast1-bc"
            " australia-southeast1-c europe-north1-c europe-west1-bc europe-west3-c"
            " europe-west4-bc europe-west8-c europe-west9-c us-central1-abc us-east4-abc"
            " us-east5-a us-west1-ab us-west4-a",
        ),
        Accelerator(
            name="nvidia-h100-mega-80gb",
            shown="NVIDIA H100 80GB MEGA",
            driver="NVIDIA H100 80GB HBM3",
            most=8,
            zones="asia-east1-c asia-northeast1-b asia-southeast1-bc australia-southeast1-c"
            " europe-north1-c europe-west1-bc europe-west3-c europe-west4-bc us-central1-abc"
            " us-east4-abc us-east5-a us-west1-ab us-west4-a",
        ),
        Accelerator(
            name="nvidia-h200-141gb",
            shown="NVIDIA H200 141GB",
            driver="NVIDIA H200",
            most=8,
            zones="asia-south1-b asia-south2-c europe-west1-b europe-west4-a us-central1-b"
            " us-east4-b us-east5-a us-south1-b us-west1-c",
        ),
        Accelerator(
            name="nvidia-b200",
            shown="NVIDIA B200",
            driver="NVIDIA B200",
            most=8,
            zones="asia-northeast1-b asia-southeast1-b europe-north1-b europe-west4-b"
            " us-central1-b us-east1-b us-east4-b us-south1-b us-west2-c us-west3-bc",
        ),
        Accelerator(
            name="nvidia-gb200",
            shown="NVIDIA GB200",
            driver="NVIDIA GB200",
            most=4,
            zones="europe-west4-b us-central1-a us-east1-b us-east4-b",
        ),
    )
}

# family-size: vCPU, GB, GPUs, bundled local SSDs. https://cloud.google.com/compute/docs/gpus
_BUILT_IN = {
    "nvidia-l4": """
        g2-standard-4 4 16 1 0|g2-standard-8 8 32 1 0|g2-standard-12 12 48 1 0
        g2-standard-16 16 64 1 0|g2-standard-32 32 128 1 0|g2-standard-24 24 96 2 0
        g2-standard-48 48 192 4 0|g2-standard-96 96 384 8 0""",
    # g4-standard-6, -12 and -24 have a part of a card, which is not for computing: left out.
    "nvidia-rtx-pro-6000": """
        g4-standard-48 48 180 1 0|g4-standard-96 96 360 2 0|g4-standard-192 192 720 4 0
        g4-standard-384 384 1440 8 0""",
    "nvidia-tesla-a100": """
        a2-highgpu-1g 12 85 1 0|a2-highgpu-2g 24 170 2 0|a2-highgpu-4g 48 340 4 0
        a2-highgpu-8g 96 680 8 0|a2-megagpu-16g 96 1360 16 0""",
    "nvidia-a100-80gb": """
        a2-ultragpu-1g 12 170 1 1|a2-ultragpu-2g 24 340 2 2|a2-ultragpu-4g 48 680 4 4
        a2-ultragpu-8g 96 1360 8 8""",
    "nvidia-h100-80gb": """
        a3-highgpu-1g 26 234 1 2|a3-highgpu-2g 52 468 2 4|a3-highgpu-4g 104 936 4 8
        a3-highgpu-8g 208 1872 8 16|a3-edgegpu-8g 208 1872 8 16""",
    "nvidia-h100-mega-80gb": "a3-megagpu-8g 208 1872 8 16",
    "nvidia-h200-141gb": "a3-ultragpu-8g 224 2952 8 32",
    "nvidia-b200": "a4-highgpu-8g 224 3968 8 32",
    "nvidia-gb200": "a4x-highgpu-4g 140 884 4 4",
}
# https://cloud.google.com/compute/docs/accelerator-optimized-machines
_NOT_ON_DEMAND = {
    "a3-highgpu-1g",
    "a3-highgpu-2g",
    "a3-highgpu-4g",
    "a3-ultragpu-8g",
    "a4-highgpu-8g",
    "a4x-highgpu-4g",
}
# host family: MB of memory for each vCPU, sizes. /compute/docs/general-purpose-machines
_HOSTS = {
    "n1-standard": (3840, (1, 2, 4, 8, 16, 32, 64, 96)),
    "n1-highmem": (6656, (2, 4, 8, 16, 32, 64, 96)),
    "n1-highcpu": (921.6, (2, 4, 8, 16, 32, 64, 96)),
    "e2-standard": (4096, (2, 4, 8, 16, 32)),
    "e2-highmem": (8192, (2, 4, 8, 16)),
}
# Most vCPU and MB of an N1 host by attached model and count: /compute/docs/gpus#n1-gpus
N1_CEILINGS: dict[str, dict[int, tuple[int, int]]] = {
    "nvidia-tesla-t4": {1: (48, 312), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-v100": {1: (12, 78), 2: (24, 156), 4: (48, 312), 8: (96, 624)},
    "nvidia-tesla-p100": {1: (16, 104), 2: (32, 208), 4: (96, 624)},
    "nvidia-tesla-p4": {1: (24, 156), 2: (48, 312), 4: (96, 624)},
}
DISK_TYPES = {
    # name → smallest, usual, largest size in GB: /compute/docs/disks
    "pd-standard": (10, 500, 65536),
    "pd-balanced": (10, 100, 65536),
    "pd-ssd": (10, 100, 65536),
    "hyperdisk-balanced": (4, 100, 65536),
    "local-ssd": (375, 375, 375),
}
# Machines that take no Persistent Disk, hyperdisk only; and families without hyperdisk-balanced:
# https://cloud.google.com/compute/docs/disks/hyperdisks#machine-type-support
_HYPERDISK_ONLY = ("g4-", "a3-ultragpu-", "a4-", "a4x-", "c4-", "n4-")
_NO_HYPERDISK_BALANCED = {"n1", "e2", "g2", "a2"}


def takes_disk(machine: MachineType, disk_type: str) -> bool:
    """Say whether a machine type can have a disk of a type."""
    if disk_type.startswith("hyperdisk"):
        return machine.family not in _NO_HYPERDISK_BALANCED
    return disk_type == "local-ssd" or not machine.name.startswith(_HYPERDISK_ONLY)


@dataclass(frozen=True, kw_only=True)
class Image:
    """One boot image."""

    project: str
    name: str
    family: str
    size_gb: int
    license_id: str
    arm: bool = False


# The families that a GPU instance boots from. /compute/docs/images/os-details
IMAGES = (
    Image(
        project="cos-cloud",
        name="cos-stable-125-19216-104-74",
        family="cos-stable",
        size_gb=10,
        license_id="1001010",
    ),
    Image(
        project="cos-cloud",
        name="cos-121-18867-199-88",
        family="cos-121-lts",
        size_gb=10,
        license_id="1001010",
    ),
    Image(
        project="ubuntu-os-accelerator-images",
        name="ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261104",
        family="ubuntu-accelerator-2404-amd64-with-nvidia-580",
        size_gb=20,
        license_id="2211838267635035815",
    ),
    Image(
        project="ubuntu-os-accelerator-images",
        name="ubuntu-accelerator-2204-amd64-with-nvidia-580-v20261104",
        family="ubuntu-accelerator-2204-amd64-with-nvidia-580",
        size_gb=20,
        license_id="5511465778777431107",
    ),
    Image(
        project="debian-cloud",
        name="debian-12-bookworm-v20261014",
        family="debian-12",
        size_gb=10,
        license_id="2147286739765738111",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Price:
    """USD per hour of a whole machine."""

    on_demand: float
    spot: float


@cache
def prices() -> Mapping[tuple[str, str], Price]:
    """Return the prices by region and machine type."""
    with PRICES.open(newline="") as file:
        return {
            (row["region"], row["machine_type"]): Price(
                on_demand=float(row["usd_per_hour"]), spot=float(row["usd_per_hour_spot"])
            )
            for row in csv.DictReader(file)
            if row["usd_per_hour"] and row["usd_per_hour_spot"]
        }


@cache
def zones() -> Mapping[str, tuple[str, ...]]:
    """Return the zones of every region."""
    regions = sorted({region for region, _ in prices()})
    return {
        region: tuple(f"{region}-{letter}" for letter in _ZONE_LETTERS.get(region, "abc"))
        for region in regions
    }


def region_of(zone: str) -> str:
    """Return the region of a zone."""
    return zone.rpartition("-")[0]


@cache
def machine_types() -> Mapping[str, MachineType]:
    """Return every machine type by name."""
    return {each.name: each for each in (*_hosts(), *_gpu_machines())}


def _hosts() -> Iterator[MachineType]:
    for kind, (memory_mb, sizes) in _HOSTS.items():
        for size in sizes:
            yield MachineType(name=f"{kind}-{size}", cpus=size, memory_mb=int(memory_mb * size))


def _gpu_machines() -> Iterator[MachineType]:
    for accelerator, table in _BUILT_IN.items():
        for row in table.replace("\n", "|").split("|"):
            if not row.strip():
                continue
            name, cpus, memory_gb, gpus, ssds = row.split()
            yield MachineType(
                name=name,
                cpus=int(cpus),
                memory_mb=int(memory_gb) * 1024,
                accelerator=accelerator,
                gpus=int(gpus),
                bundled_ssds=int(ssds),
                on_demand=name not in _NOT_ON_DEMAND,
            )


@cache
def accelerators_in(zone: str) -> tuple[str, ...]:
    """Return the names of the accelerators that a zone has."""
    region, _, letter = zone.rpartition("-")
    return tuple(
        name for name, each in ACCELERATORS.items() if letter in _letters(each).get(region, "")
    )


@cache
def _letters(accelerator: Accelerator) -> Mapping[str, str]:
    if accelerator.name == "nvidia-rtx-pro-6000":  # known by the regions that have a price
        regions = {region for region, machine in prices() if machine == "g4-standard-48"}
        return {region: "".join(z[-1] for z in zones()[region][:2]) for region in regions}
    return dict(_split(word) for word in accelerator.zones.split())


def _split(word: str) -> tuple[str, str]:
    region, _, letters = word.rpartition("-")
    return region, letters


@cache
def machines_in(zone: str) -> Mapping[str, MachineType]:
    """Return the machine types that a zone has."""
    region = region_of(zone)
    here = accelerators_in(zone)
    return {
        name: each
        for name, each in machine_types().items()
        if each.accelerator in here or (not each.accelerator and _host_in(region, each.family))
    }


def _host_in(region: str, family: str) -> bool:
    return (region, f"{family}-standard-4") in prices()


def image(project: str, name: str) -> Image | None:
    """Return an image by its name or its family."""
    for each in IMAGES:
        if each.project == project and name in {each.name, each.family}:
            return each
    return None
