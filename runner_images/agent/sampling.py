"""Take a sample of what the run uses, every few seconds."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynthus.wire import Facts
from runner_images.agent.gpus import driver_version, found_gpus, gpu_samples
from runner_images.agent.workload import Usage

SAMPLE_S = 10.0  # one in each heartbeat
FIRST_SAMPLE_S = 1.0  # a short run's chart should not be empty


def found_facts(engine: str, state_dir: Path) -> Facts:
    """Return what this instance has."""
    return Facts(
        engine=engine,
        cpu_count=_usable_cpus(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        disk_free_bytes=shutil.disk_usage(state_dir).free,
        gpus=found_gpus(),
        driver=driver_version(),
    )


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Sampler:
    """Turns counters into rates between two looks."""

    folder: Path
    gpu_uuids: tuple[str, ...] = ()
    _cpu_s: float | None = None
    _at_s: float = 0.0
    _used_at_start: int | None = None

    def sample(self, usage: Usage, at_s: float) -> dict[str, Any]:
        """Return the body of a `sample` event; 100 % is one core."""
        cpu_pct = None
        if usage.cpu_s is not None:
            if self._cpu_s is not None and at_s > self._at_s:
                cpu_pct = round(max(0.0, usage.cpu_s - self._cpu_s) / (at_s - self._at_s) * 100, 1)
            self._cpu_s, self._at_s = usage.cpu_s, at_s
        return {
            "cpu_pct": cpu_pct,
            "memory_bytes": usage.memory_bytes,
            "memory_limit_bytes": usage.memory_limit_bytes,
            "disk_bytes": self._disk_growth(),
            "gpus": gpu_samples(self.gpu_uuids),
        }

    def _disk_growth(self) -> int:
        """Return by how much the disk filled up since the first sample: exact sizes cost a walk."""
        used = shutil.disk_usage(self.folder).used
        self._used_at_start = used if self._used_at_start is None else self._used_at_start
        return max(0, used - self._used_at_start)
