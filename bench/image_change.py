"""How soon, and with how many bytes, a changed source is pullable: ours beside the builders."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.fresh_builder import LARGE, SMALL, Made
from bench.image import bench_image
from bench.result import Result, at_least, at_most
from demo.services import docker_client

HEADROOM = 40_000  # bytes for manifests, headers and questions
PLAIN = "docker build + push"


def image_change() -> list[Result]:
    """Measure in a network of its own; raises RuntimeError without root."""
    if os.geteuid() != 0:
        raise RuntimeError("image_change_s needs root: a builder with an empty disk is mounted")
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-seed-") as folder:
        seed, out = Path(folder) / "seed.tar", Path(folder) / "made.jsonl"
        save = [str(docker_client()), "save", "--output", str(seed), bench_image()]
        subprocess.run(save, check=True)
        inside = [sys.executable, "-m", "bench.fresh_builder", str(out), str(seed)]
        subprocess.run(["unshare", "--net", *inside], check=True)
        made = [Made(**json.loads(line)) for line in out.read_text().splitlines()]
    _keep(made)
    return _results(made)


def _results(made: Sequence[Made]) -> list[Result]:
    ours = _of(made, "ours", SMALL)
    theirs = _of(made, PLAIN, SMALL)
    median = statistics.median(one.seconds for one in theirs)
    others = "; ".join(_told(made, way, SMALL) for way in _ways(made))
    large = "; ".join(_told(made, way, LARGE) for way in _ways(made))
    ratios = [
        one.moved_bytes / (1.05 * one.layer_bytes + HEADROOM)
        for one in (*ours, *_of(made, "ours", LARGE))
    ]
    return [
        at_most("image_change_s", "s", [one.seconds for one in ours], 0.5, others),
        at_least(
            "image_change_speedup",
            "x",
            [median / one.seconds for one in ours],
            100,
            f"{PLAIN} on an empty builder; 100 MiB of source: {large}",
        ),
        at_most("image_bytes_ratio", "x", ratios, 1.0, "of 1.05 x the compressed source + 40 kB"),
    ]


def _of(made: Sequence[Made], way: str, mib: int) -> list[Made]:
    return [one for one in made if one.way == way and one.source_mib == mib]


def _ways(made: Sequence[Made]) -> list[str]:
    return sorted({one.way for one in made})


def _told(made: Sequence[Made], way: str, mib: int) -> str:
    found = _of(made, way, mib)
    if not found:
        return f"{way}: not measured"
    seconds = statistics.median(one.seconds for one in found)
    moved = statistics.median(one.moved_bytes for one in found)
    disk = max(one.disk_bytes for one in found)
    return f"{way} {seconds:.2f} s, {moved / 1e6:.1f} MB moved, {disk / 1e6:.0f} MB of disk"


def _keep(made: Sequence[Made]) -> None:
    """Keep each single measurement beside the results: they hold more than the targets ask."""
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    rows = [vars(one) for one in made]
    (out / "image_change.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
