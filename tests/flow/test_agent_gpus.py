"""GPUs are read through NVIDIA's library and shared out among the agents of a machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cynthus.wire import Gpu
from runner_images.agent.gpus import choose_gpus, found_gpus
from tests.nvml import nvml_library

ROOT = Path(__file__).parents[2]

ASK = """
import json
from cynthus.codec import encode
from runner_images.agent.gpus import driver_version, found_gpus, gpu_samples
print(json.dumps([driver_version(), encode(found_gpus()), gpu_samples(("GPU-a", "GPU-b"))]))
"""


def test_gpus_are_read_as_the_library_tells_them(tmp_path: Path) -> None:
    nvml_library(tmp_path)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    words = [sys.executable, "-c", ASK]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=True)
    driver, gpus, samples = json.loads(done.stdout)
    assert driver == "580.126.09"
    assert gpus == [
        {"index": 0, "model": "NVIDIA L4", "memory_bytes": 24 << 30, "uuid": "GPU-a"},
        {"index": 1, "model": "NVIDIA L4", "memory_bytes": 24 << 30, "uuid": "GPU-b"},
    ]
    known = {
        "utilization_pct": 87,
        "memory_bytes": 3 << 30,
        "memory_total_bytes": 24 << 30,
        "temperature_c": 61,
    }
    assert samples == [{"index": 0, **known, "power_w": 71.5}, {"index": 1, **known}]


@pytest.mark.gpu
def test_a_real_gpu_is_found() -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no NVIDIA driver here")
    words = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    uuids = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert [gpu.uuid for gpu in found_gpus()] == uuids


def test_no_two_agents_get_the_same_gpu(tmp_path: Path) -> None:
    gpus = tuple(
        Gpu(index=i, model="x", memory_bytes=1, uuid=f"{tmp_path.name}-{i}") for i in range(4)
    )
    first = choose_gpus(gpus, 2, frozenset())
    second = choose_gpus(gpus, 1, frozenset({gpus[2].uuid}))
    assert first is not None
    assert second is not None
    assert (first.uuids, second.uuids) == ((gpus[0].uuid, gpus[1].uuid), (gpus[3].uuid,))
    assert choose_gpus(gpus, 2, frozenset()) is None  # one is free, and stays free
    first.give_back()
    third = choose_gpus(gpus, 3, frozenset())
    assert third is not None
    assert third.uuids == tuple(gpu.uuid for gpu in gpus[:3])
    for chosen in (second, third):
        chosen.give_back()
