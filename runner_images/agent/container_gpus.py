"""Give a container its GPUs: by NVIDIA's toolkit, or by device files where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from runner_images.agent.gpus import device_paths

# Where Container-Optimized OS installs the driver, and where its containers expect it:
# https://cloud.google.com/container-optimized-os/docs/how-to/run-gpus
DRIVER = "/var/lib/nvidia"
MOUNTED = "/usr/local/nvidia"
SHARED_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
LIBRARY_PATH = "LD_LIBRARY_PATH"


class GpuMode(StrEnum):
    """How containers get at GPUs."""

    AUTO = "auto"  #: by device files where the driver lies as on Container-Optimized OS
    COS = "cos"  #: by device files with the driver's own folders
    TOOLKIT = "toolkit"  #: by the engine, whose hook is NVIDIA's container toolkit


@dataclass(frozen=True, kw_only=True)
class GpuAccess:
    """What a container is created with for its GPUs."""

    options: dict[str, Any] = field(default_factory=dict)  # of the engine's host config
    variables: dict[str, str] = field(default_factory=dict)


def gpu_access(mode: GpuMode, uuids: tuple[str, ...], environment: Iterable[str]) -> GpuAccess:
    """Return how a container gets exactly these GPUs.

    `environment` is what it has otherwise, as `NAME=value`; of two the later one counts.
    """
    if not uuids:
        return GpuAccess()
    if mode is GpuMode.COS or (mode is GpuMode.AUTO and os.path.isdir(f"{DRIVER}/lib64")):
        return _by_devices(uuids, environment)
    from docker.types import DeviceRequest

    request = DeviceRequest(device_ids=list(uuids), capabilities=[["gpu"]])
    return GpuAccess(options={"device_requests": [request]})


def _by_devices(uuids: tuple[str, ...], environment: Iterable[str]) -> GpuAccess:
    shared = [path for path in SHARED_DEVICES if os.path.exists(path)]
    variables = dict(item.partition("=")[::2] for item in environment)
    paths = [f"{MOUNTED}/lib64", *filter(None, [variables.get(LIBRARY_PATH)])]
    return GpuAccess(
        options={
            "devices": [f"{path}:{path}:rw" for path in (*device_paths(uuids), *shared)],
            "binds": [f"{DRIVER}/{part}:{MOUNTED}/{part}:ro" for part in ("lib64", "bin")],
        },
        variables={LIBRARY_PATH: ":".join(paths)},
    )
