"""Hold how much memory each type of GPU has, as its vendor tells: as of August 2026.

https://cloud.google.com/compute/docs/gpus and https://www.nvidia.com/en-us/data-center/ tell whole
gigabytes; a card has a little more, so that what is compared with these numbers fits.
"""

from __future__ import annotations

from collections.abc import Mapping

_GB = 10**9

#: By the word that offers and specs use. Cards before Turing (P4, P100, V100) are left out:
#: today's builds of PyTorch and CUDA 13 no longer carry code for them.
#: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
GPU_MEMORY: Mapping[str, int] = {
    "t4": 16 * _GB,
    "l4": 24 * _GB,
    "a100-40gb": 40 * _GB,
    "a100-80gb": 80 * _GB,
    "h100": 80 * _GB,
    "h100-mega": 80 * _GB,
    "rtx-pro-6000": 96 * _GB,
    "h200": 141 * _GB,
    "b200": 180 * _GB,
}
