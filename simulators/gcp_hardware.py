"""The stand-in GPUs of a machine, as files that its driver stand-in reads."""

from __future__ import annotations

import re
import shlex
import uuid
from pathlib import Path

from simulators.gcp_machines import Machine

# Gigabytes by the driver's name where the name does not tell them: the machine families' pages,
# https://cloud.google.com/compute/docs/gpus
GIGABYTES = {
    "NVIDIA L4": 24,
    "Tesla T4": 16,
    "Tesla P4": 8,
    "Tesla P100": 16,
    "Tesla V100": 16,
    "NVIDIA H200": 141,
    "NVIDIA B200": 180,
    "NVIDIA RTX PRO 6000": 96,
}
IDLE = "0;0;34;12000"  # utilization of GPU and memory, degrees, milliwatts


def hardware_files(machine: Machine) -> dict[str, str]:
    """Return name → text of /etc/simulated-hardware."""
    files = {
        "gpus.sh": f"GPUS={machine.gpus}\nGPU_MODEL={shlex.quote(machine.gpu_model)}\n",
        "simulated-gpus": "".join(_line(machine, number) for number in range(machine.gpus)),
    }
    if drivers_preinstalled(machine.boot_image):
        files["gpus-preinstalled"] = machine.boot_image + "\n"
    return files


def drivers_preinstalled(boot_image: str) -> bool:
    """Say whether an image brings drivers, as Google's accelerator images do."""
    return "accelerator" in boot_image


def write_hardware(folder: Path, machine: Machine) -> None:
    """Write the files anew."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, text in hardware_files(machine).items():
        (folder / name).write_text(text)


def _line(machine: Machine, number: int) -> str:
    name = f"{machine.name}/{number}"
    serial = uuid.uuid5(uuid.NAMESPACE_URL, name)  # the same at every boot, no two alike
    return f"GPU-{serial};{machine.gpu_model};{_memory_bytes(machine.gpu_model)};0;{IDLE}\n"


def _memory_bytes(model: str) -> int:
    told = re.search(r"(\d+) ?GB", model)
    if told:
        return int(told[1]) << 30
    known = [size for name, size in GIGABYTES.items() if model.startswith(name)]
    return (known[0] if known else 16) << 30
