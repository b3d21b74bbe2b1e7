"""Ask NVIDIA's management library about the GPUs, or choose some for one run.

The few functions that are needed are called straight in libnvidia-ml: the Python binding costs
14 MiB of memory for its tables, a third of what the agent may use.
https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import fcntl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from cynthus.wire import Gpu

TEXT_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE, also NVML_DEVICE_NAME_V2_BUFFER_SIZE
TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@cache
def _library() -> Any | None:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):  # no driver on this machine
        return None


def driver_version() -> str | None:
    """Return the NVIDIA driver's version."""
    library = _library()
    return None if library is None else _text(library.nvmlSystemGetDriverVersion)


def found_gpus() -> tuple[Gpu, ...]:
    """Return every GPU of this machine."""
    library = _library()
    if library is None:
        return ()
    gpus = []
    for index, handle in enumerate(_handles(library)):
        memory = _Memory()
        library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
        model = _text(library.nvmlDeviceGetName, handle) or "unknown"
        uuid = _text(library.nvmlDeviceGetUUID, handle) or ""
        gpus.append(Gpu(index=index, model=model, memory_bytes=memory.total, uuid=uuid))
    return tuple(gpus)


def _handles(library: Any) -> list[ctypes.c_void_p]:
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    handles = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
            handles.append(handle)
    return handles


def _text(ask: Callable[..., int], *handle: ctypes.c_void_p) -> str | None:
    buffer = ctypes.create_string_buffer(TEXT_BYTES)
    if ask(*handle, buffer, TEXT_BYTES) != 0:
        return None
    return buffer.value.decode("utf-8", "replace")


def device_paths(uuids: tuple[str, ...]) -> list[str]:
    """Return the device files of the given GPUs: `/dev/nvidia<minor number>`."""
    library = _library()
    if library is None:
        return []
    paths = []
    for index, handle in enumerate(_handles(library)):
        if _text(library.nvmlDeviceGetUUID, handle) in uuids:
            minor = ctypes.c_uint()
            told = library.nvmlDeviceGetMinorNumber(handle, ctypes.byref(minor)) == 0
            paths.append(f"/dev/nvidia{minor.value if told else index}")
    return paths


def gpu_samples(uuids: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what the given GPUs do now; what a model cannot tell is left out."""
    library = _library()
    if library is None or not uuids:
        return []
    samples = []
    for index, handle in enumerate(_handles(library)):
        if _text(library.nvmlDeviceGetUUID, handle) in uuids:
            samples.append({"index": index, **_sample(library, handle)})
    return samples


def _sample(library: Any, handle: ctypes.c_void_p) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    use, memory, value = _Utilization(), _Memory(), ctypes.c_uint()
    if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use)) == 0:
        sample["utilization_pct"] = use.gpu
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
        sample |= {"memory_bytes": memory.used, "memory_total_bytes": memory.total}
    if library.nvmlDeviceGetTemperature(handle, TEMPERATURE_GPU, ctypes.byref(value)) == 0:
        sample["temperature_c"] = value.value
    if library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(value)) == 0:
        sample["power_w"] = value.value / 1000  # the library tells milliwatts
    return sample


@dataclass(frozen=True)
class ChosenGpus:
    """GPUs that no other agent of this machine uses while this object is kept."""

    uuids: tuple[str, ...]
    locks: tuple[IO[bytes], ...]

    def give_back(self) -> None:
        """Let others have them."""
        for lock in self.locks:
            lock.close()


def choose_gpus(gpus: tuple[Gpu, ...], count: int, taken: frozenset[str]) -> ChosenGpus | None:
    """Take `count` GPUs that are neither `taken` nor locked; None: too few are free.

    Docker keeps no book of GPUs (`--gpus 1` is always the first), so the agents of a machine do,
    by locks that end with their process.
    """
    folder = Path(tempfile.gettempdir()) / "cynthus-gpus"
    folder.mkdir(mode=0o777, exist_ok=True)
    chosen: list[str] = []
    locks: list[IO[bytes]] = []
    for gpu in gpus:
        if len(chosen) == count:
            break
        lock = None if gpu.uuid in taken else _lock(folder / gpu.uuid)
        if lock is not None:
            chosen.append(gpu.uuid)
            locks.append(lock)
    found = ChosenGpus(tuple(chosen), tuple(locks))
    if len(chosen) == count:
        return found
    found.give_back()
    return None


def _lock(path: Path) -> IO[bytes] | None:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
