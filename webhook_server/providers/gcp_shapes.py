"""Hold machine shapes and zones for accounts that may not read the lists: as known in August 2026.

From Google's pages on GPU machine types, SkyPilot's catalogue (zones) and Cyclenerd's table
(regions), all public. Prices need the shapes too: the billing catalogue sells parts, not machines.
"""

from __future__ import annotations

from collections.abc import Iterator

from webhook_server.providers.gcp_machines import GIB, Catalogue, MachineType

#: accelerator → (machine type, GPUs, vCPUs, GiB)
_BUILT_IN: dict[str, tuple[tuple[str, int, int, int], ...]] = {
    "nvidia-l4": (
        ("g2-standard-4", 1, 4, 16),
        ("g2-standard-8", 1, 8, 32),
        ("g2-standard-12", 1, 12, 48),
        ("g2-standard-16", 1, 16, 64),
        ("g2-standard-32", 1, 32, 128),
        ("g2-standard-24", 2, 24, 96),
        ("g2-standard-48", 4, 48, 192),
        ("g2-standard-96", 8, 96, 384),
    ),
    "nvidia-rtx-pro-6000": (
        ("g4-standard-48", 1, 48, 180),
        ("g4-standard-96", 2, 96, 360),
        ("g4-standard-192", 4, 192, 720),
        ("g4-standard-384", 8, 384, 1440),
    ),
    "nvidia-tesla-a100": (
        ("a2-highgpu-1g", 1, 12, 85),
        ("a2-highgpu-2g", 2, 24, 170),
        ("a2-highgpu-4g", 4, 48, 340),
        ("a2-highgpu-8g", 8, 96, 680),
        ("a2-megagpu-16g", 16, 96, 1360),
    ),
    "nvidia-a100-80gb": (
        ("a2-ultragpu-1g", 1, 12, 170),
        ("a2-ultragpu-2g", 2, 24, 340),
        ("a2-ultragpu-4g", 4, 48, 680),
        ("a2-ultragpu-8g", 8, 96, 1360),
    ),
    "nvidia-h100-80gb": (
        ("a3-highgpu-1g", 1, 26, 234),
        ("a3-highgpu-2g", 2, 52, 468),
        ("a3-highgpu-4g", 4, 104, 936),
        ("a3-highgpu-8g", 8, 208, 1872),
    ),
    "nvidia-h100-mega-80gb": (("a3-megagpu-8g", 8, 208, 1872),),
    "nvidia-h200-141gb": (("a3-ultragpu-8g", 8, 224, 2952),),
    "nvidia-b200": (("a4-highgpu-8g", 8, 224, 3968),),
}

#: family → (sizes in vCPUs, GiB for each vCPU)
_HOSTS = {
    "e2-standard": ((2, 4, 8, 16, 32), 4.0),
    "e2-highmem": ((2, 4, 8, 16), 8.0),
    "n1-standard": ((1, 2, 4, 8, 16, 32, 64, 96), 3.75),
    "n1-highmem": ((2, 4, 8, 16, 32, 64, 96), 6.5),
}

#: accelerator → zones, each region with its letters
_ZONES = {
    "nvidia-tesla-t4": (
        "us-central1-abcf us-east1-cd us-east4-abc us-west1-ab us-west2-bc us-west3-b us-west4-ab"
        " europe-west1-bcd europe-west2-ab europe-west3-b europe-west4-abc europe-central2-bc"
        " asia-east1-ac asia-east2-ac asia-northeast1-ac asia-northeast3-bc asia-south1-abc"
        " asia-southeast1-abc asia-southeast2-ab australia-southeast1-ac me-west1-bc"
        " northamerica-northeast1-c southamerica-east1-ac"
    ),
    "nvidia-l4": (
        "us-central1-abc us-east1-bd us-east4-a us-west1-ab europe-west4-abc asia-south1-a"
        " asia-southeast1-b"
    ),
    "nvidia-tesla-a100": (
        "asia-northeast1-ac asia-northeast3-ab asia-southeast1-abc europe-west4-ab me-west1-ac"
        " us-central1-abcf us-east1-b us-west1-b us-west3-b us-west4-b"
    ),
    "nvidia-a100-80gb": "asia-southeast1-c europe-west4-a us-central1-ac us-east4-c us-east5-ab",
    "nvidia-h100-80gb": (
        "asia-east1-c asia-northeast1-b asia-south1-c asia-south2-b asia-southeast1-bc"
        " australia-southeast1-c europe-north1-c europe-west1-bc europe-west3-c europe-west4-bc"
        " europe-west9-c us-central1-abc us-east4-abc us-east5-a us-west1-ab us-west4-a"
    ),
    "nvidia-h100-mega-80gb": (
        "asia-east1-c asia-northeast1-b asia-southeast1-bc australia-southeast1-c europe-north1-c"
        " europe-west1-bc europe-west3-c europe-west4-bc us-central1-abc us-east4-abc us-east5-a"
        " us-west1-ab us-west4-a"
    ),
    "nvidia-h200-141gb": (
        "asia-south1-b asia-south2-c europe-west1-b europe-west4-a us-central1-b us-east4-b"
        " us-east5-a us-south1-b us-west1-c"
    ),
    "nvidia-b200": (
        "asia-northeast1-b asia-southeast1-b europe-north1-b europe-west4-b us-central1-b"
        " us-east1-b us-east4-b us-south1-b us-west2-c us-west3-bc"
    ),
}
_ATTACHED = {"nvidia-tesla-t4": 4}  # the zones of the older cards are not known well enough


def machine_types() -> Iterator[MachineType]:
    """Return every shape that is known."""
    for accelerator, shapes in _BUILT_IN.items():
        for name, gpus, cpu, gib in shapes:
            yield MachineType(
                name=name,
                cpu=cpu,
                memory_bytes=gib * GIB,
                accelerator=accelerator,
                gpu_count=gpus,
            )
    for family, (sizes, gib_each) in _HOSTS.items():
        for cpu in sizes:
            memory = int(cpu * gib_each * GIB)
            yield MachineType(name=f"{family}-{cpu}", cpu=cpu, memory_bytes=memory)


def fallback() -> Catalogue:
    """Return the catalogue of this file."""
    shapes = tuple(machine_types())
    zones = {accelerator: frozenset(_spelled_out(text)) for accelerator, text in _ZONES.items()}
    everywhere = frozenset().union(*zones.values())
    return Catalogue(
        machines={
            zone: tuple(
                shape
                for shape in shapes
                if shape.accelerator is None or zone in zones.get(shape.accelerator, ())
            )
            for zone in everywhere
        },
        attachable={
            zone: {name: most for name, most in _ATTACHED.items() if zone in zones[name]}
            for zone in everywhere
        },
        live=False,
    )


def _spelled_out(text: str) -> Iterator[str]:
    for word in text.split():
        region, _, letters = word.rpartition("-")
        for letter in letters:
            yield f"{region}-{letter}"
