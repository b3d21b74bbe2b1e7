"""The stand-in for NVIDIA's management library with two GPUs, for tests without a driver."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "simulators/gcp_nvml.c"
# What the library tells: uuid, model, memory, used, two utilizations, temperature, milliwatts.
GPUS = f"""\
GPU-a;NVIDIA L4;{24 << 30};{3 << 30};87;40;61;71500
GPU-b;NVIDIA L4;{24 << 30};{3 << 30};87;40;61;
"""


def nvml_library(folder: Path) -> None:
    """Make `libnvidia-ml.so.1` in the folder, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a library with NVML's interface")
    (folder / "simulated-gpus").write_text(GPUS)
    library = folder / "libnvidia-ml.so.1"
    make = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(make, check=True)
