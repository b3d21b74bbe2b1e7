"""A library with NVML's interface and two GPUs, for tests where there is no driver."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# The library's own prototypes, from nvml.h: https://docs.nvidia.com/deploy/nvml-api/
LIBRARY = r"""
#include <string.h>
typedef struct device { int index; } *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
static struct device devices[2] = {{0}, {1}};
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *v, unsigned int n) { strncpy(v, "570.1", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) { *d = devices + i; return 0; }
int nvmlDeviceGetName(nvmlDevice_t d, char *v, unsigned int n) {
    strncpy(v, "NVIDIA L4", n); return 0; }
int nvmlDeviceGetMinorNumber(nvmlDevice_t d, unsigned int *n) { *n = d->index; return 0; }
int nvmlDeviceGetUUID(nvmlDevice_t d, char *v, unsigned int n) {
    strncpy(v, d->index ? "GPU-b" : "GPU-a", n); return 0; }
int nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m) {
    m->total = 24ULL << 30; m->used = 3ULL << 30; m->free = 21ULL << 30; return 0; }
int nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *u) {
    u->gpu = 87; u->memory = 40; return 0; }
int nvmlDeviceGetTemperature(nvmlDevice_t d, int sensor, unsigned int *t) {
    *t = 61; return sensor; }
int nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *mw) {
    *mw = 71500; return d->index ? 3 : 0; }
"""


def nvml_library(folder: Path) -> None:
    """Make `libnvidia-ml.so.1` in the folder, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a library with NVML's interface")
    (folder / "nvml.c").write_text(LIBRARY)
    library = folder / "libnvidia-ml.so.1"
    make = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "nvml.c")]
    subprocess.run(make, check=True)
