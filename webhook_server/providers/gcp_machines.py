"""Know Google Cloud's machine and accelerator types: what the lists tell, and what they do not.

Shapes and zones come from the live lists. What no list tells (which words name a GPU, what an N1
may carry, what is lent as Spot only, which disks a family takes) stands here, from
https://cloud.google.com/compute/docs/gpus and .../accelerator-optimized-machines. The shapes and
zones below are only for accounts that may not read the lists.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

MIB = 1 << 20
GIB = 1 << 30
MOST_DISK_GIB = 64 * 1024  # https://cloud.google.com/compute/docs/disks/persistent-disks#capacity

#: What is ever ordered, for the lists' filter (RE2): a zone has some hundred types besides.
NAMES = "((a2|a3|a4|g2|g4)-.*|(e2|n1)-(standard|highmem)-.*)"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One model of GPU."""

    name: str  # the word of our offers
    accelerator: str  # Google's name of it
    also: tuple[str, ...] = ()  # words that mean it too, perhaps beside another model
    quota: str  # the metric that limits it, without PREEMPTIBLE_


#: Not here: K80 (gone) and GB200 (Arm, for which no driver of Container-Optimized OS exists).
GPUS = (
    Gpu(name="t4", accelerator="nvidia-tesla-t4", quota="NVIDIA_T4_GPUS"),
    Gpu(name="p4", accelerator="nvidia-tesla-p4", quota="NVIDIA_P4_GPUS"),
    Gpu(name="p100", accelerator="nvidia-tesla-p100", quota="NVIDIA_P100_GPUS"),
    Gpu(name="v100", accelerator="nvidia-tesla-v100", quota="NVIDIA_V100_GPUS"),
    Gpu(name="l4", accelerator="nvidia-l4", quota="NVIDIA_L4_GPUS"),
    Gpu(
        name="rtx-pro-6000",
        accelerator="nvidia-rtx-pro-6000",
        also=("rtxpro6000",),
        quota="NVIDIA_RTX_PRO_6000_GPUS",
    ),
    Gpu(
        name="a100-40gb",
        accelerator="nvidia-tesla-a100",
        also=("a100",),
        quota="NVIDIA_A100_GPUS",
    ),
    Gpu(
        name="a100-80gb",
        accelerator="nvidia-a100-80gb",
        also=("a100",),
        quota="NVIDIA_A100_80GB_GPUS",
    ),
    Gpu(
        name="h100",
        accelerator="nvidia-h100-80gb",
        also=("h100-80gb",),
        quota="NVIDIA_H100_GPUS",
    ),
    Gpu(
        name="h100-mega",
        accelerator="nvidia-h100-mega-80gb",
        also=("h100", "h100-80gb", "h100-mega-80gb"),
        quota="NVIDIA_H100_MEGA_GPUS",
    ),
    Gpu(
        name="h200",
        accelerator="nvidia-h200-141gb",
        also=("h200-141gb",),
        quota="NVIDIA_H200_GPUS",
    ),
    Gpu(name="b200", accelerator="nvidia-b200", quota="NVIDIA_B200_GPUS"),
)

#: What an N1 may have at most beside so many cards: (vCPUs, GiB).
#: https://cloud.google.com/compute/docs/gpus#n1-gpus
CEILINGS: Mapping[str, Mapping[int, tuple[int, int]]] = {
    "nvidia-tesla-t4": {1: (48, 312), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-p4": {1: (24, 156), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-p100": {1: (16, 104), 2: (32, 208), 4: (96, 624)},
    "nvidia-tesla-v100": {1: (12, 78), 2: (24, 156), 4: (48, 312), 8: (96, 624)},
}

#: Lent as Spot, flex-start or reservation only: accelerator-optimized-machines, "Consumption
#: option availability by machine type".
_SPOT_ONLY = re.compile(r"a3-highgpu-[124]g|a3-ultragpu-.*|a4-.*")
#: Persistent Disk cannot be attached: https://cloud.google.com/compute/docs/disks/hyperdisks
_HYPERDISK_ONLY = re.compile(r"a3-ultragpu-.*|a4-.*|g4-.*")
#: Parts of one GPU: a run that asks for a GPU means a whole one.
_FRACTIONS = re.compile(r"g4-standard-(6|12|24)")


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """What one machine type has."""

    name: str
    cpu: int
    memory_bytes: int
    accelerator: str | None = None  # built in
    gpu_count: int = 0


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What each zone has."""

    machines: Mapping[str, tuple[MachineType, ...]]  # by zone
    attachable: Mapping[str, Mapping[str, int]]  # by zone: accelerator → most cards of an instance
    live: bool = field(default=True)  # False: the shapes and zones of this file

    @property
    def zones(self) -> tuple[str, ...]:
        """Return all zones, in order."""
        return tuple(sorted(self.machines))


def region_of(zone: str) -> str:
    """Return the region of a zone."""
    return zone.rpartition("-")[0]


def is_spot_only(machine: str) -> bool:
    """Say whether a machine type cannot be had on demand."""
    return _SPOT_ONLY.fullmatch(machine) is not None


def boot_disk_type(machine: str) -> str:
    """Return the disk type that boots this machine type."""
    return "hyperdisk-balanced" if _HYPERDISK_ONLY.fullmatch(machine) else "pd-balanced"


def gpus_named(word: str) -> tuple[Gpu, ...]:
    """Return the models that a spec's word means; empty: none that is lent."""
    exactly = gpu_of(word)
    if exactly is not None:
        return (exactly,)
    plain = word.removeprefix("nvidia-").removeprefix("tesla-")
    return tuple(gpu for gpu in GPUS if plain == gpu.name or plain in gpu.also)


def gpu_of(accelerator: str) -> Gpu | None:
    """Return the model that Google calls so."""
    return next((gpu for gpu in GPUS if gpu.accelerator == accelerator), None)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    # Half of the letters: "l40" is near "l4", "no-such-gpu" is near nothing.
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return close[0] if close else None


def machine_text(machine: str, gpu: Gpu | None, count: int) -> str:
    """Return an offer's `machine`: a type, or `TYPE+COUNTxGPU` where GPUs are attached to it."""
    return machine if gpu is None else f"{machine}+{count}x{gpu.name}"


def taken_apart(text: str) -> tuple[str, Gpu | None, int]:
    """Return machine type, attached GPU and count of an offer's `machine`.

    Raises: ValueError when it is in neither form.
    """
    machine, plus, attached = text.partition("+")
    if not plus:
        return machine, None, 0
    count, x, name = attached.partition("x")
    gpu = next((gpu for gpu in GPUS if gpu.name == name), None)
    if not x or not count.isdecimal() or gpu is None:
        raise ValueError(f"{text!r} should be TYPE or TYPE+COUNTxGPU")
    return machine, gpu, int(count)


# ── from the lists ──────────────────────────────────────────────────────────────────────────────


def read_catalogue(
    machine_types: Iterable[tuple[str, Mapping[str, Any]]],
    accelerator_types: Iterable[tuple[str, Mapping[str, Any]]],
) -> Catalogue:
    """Return the catalogue of two aggregated lists, given as (scope, resource)."""
    machines: dict[str, list[MachineType]] = defaultdict(list)
    for scope, resource in machine_types:
        machine = _machine(resource)
        if machine is not None:
            machines[_zone(scope)].append(machine)
    attachable: dict[str, dict[str, int]] = defaultdict(dict)
    for scope, resource in accelerator_types:
        if resource["name"] in CEILINGS and not _is_over(resource):
            most = int(resource.get("maximumCardsPerInstance", 0))
            attachable[_zone(scope)][resource["name"]] = most
    return Catalogue(
        machines={zone: tuple(found) for zone, found in machines.items()},
        attachable=dict(attachable),
    )


def _zone(scope: str) -> str:
    return scope.rpartition("/")[2]


def _is_over(resource: Mapping[str, Any]) -> bool:
    return resource.get("deprecated", {}).get("state") in ("OBSOLETE", "DELETED")


def _machine(resource: Mapping[str, Any]) -> MachineType | None:
    """Return what is wanted of one entry, or None for a type that is never ordered."""
    name = resource["name"]
    if not re.fullmatch(NAMES, name) or _FRACTIONS.fullmatch(name) or _is_over(resource):
        return None
    built_in = resource.get("accelerators", [])
    return MachineType(
        name=name,
        cpu=int(resource["guestCpus"]),
        memory_bytes=int(resource["memoryMb"]) * MIB,
        accelerator=built_in[0]["guestAcceleratorType"] if built_in else None,
        gpu_count=int(built_in[0]["guestAcceleratorCount"]) if built_in else 0,
    )
