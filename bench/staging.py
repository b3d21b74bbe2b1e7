"""Staging of data beside the hub's own client, and beside `cp`."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.result import Result, at_least, at_most
from cynthus.wire_data import Dataset, DatasetWork, SourceKind, StagingView
from runner_images.agent.clock import elapsed_s, wall_clock
from runner_images.agent.disk_cache import remove_tree
from runner_images.agent.staging import Stage, Staging
from tests.agent_process import an_agent
from tests.fake_control_plane import ControlPlane, a_work
from tests.hub_fixture import Hub

BYTES = 2 * 10**9
FORMS = {"1 file": 1, "10,000 files": 10_000}
ROUNDS = 2
LEAST_COLD, LEAST_WARM = 0.8, 0.9
MOST_RSS_MIB = 120.0
SAMPLE_S = 0.05
LIMIT_S = 600.0  # of one staging on a busy machine

_ALONE = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], repo_type="dataset", revision=sys.argv[2], local_dir=sys.argv[3])
"""


def staging() -> list[Result]:
    """Measure cold and warm staging of 2 GB in one and in ten thousand files."""
    with _folder() as folder, _hub(folder) as hub:
        cold: list[list[float]] = []
        warm: list[list[float]] = []
        beside: list[str] = []
        for form, count in FORMS.items():
            work = _dataset(hub, form, count)
            rounds = [_round(folder, hub, work) for _ in range(ROUNDS)]
            cold.append([alone / ours for alone, ours, _, _ in rounds])
            warm.append([copy / again for _, _, copy, again in rounds])
            middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
            alone, ours, copy, again = middle
            beside.append(
                f"{form}: client {alone:.1f} s, ours {ours:.1f} s;"
                f" cp {copy:.2f} s, ours {again:.2f} s"
            )
        told = "; ".join(beside)
        return [
            at_least("staging_cold_ratio", "x", _worse(cold), LEAST_COLD, told),
            at_least("staging_warm_ratio", "x", _worse(warm), LEAST_WARM, told),
            at_most("staging_rss_mib", "MiB", [_rss(folder, work)], MOST_RSS_MIB, form),
        ]


def _worse(forms: list[list[float]]) -> list[float]:
    """Return the ratios of the form that does worse: the target is for each."""
    return min(forms, key=statistics.median)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-staging-") as folder:
        yield Path(folder)


@contextmanager
def _hub(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder / "hub")
    try:
        yield hub
    finally:
        hub.stop()


def _dataset(hub: Hub, form: str, count: int) -> DatasetWork:
    name = f"acme/many-{count}"
    size = BYTES // count
    many = {"count": count, "size": size, "seed": form, "path": "d/part-{:05d}.bin"}
    made = hub.make("hf/repos", type="dataset", name=name, many=many, lfs=True)
    dataset = Dataset(
        name="train",
        source=f"hf://datasets/{name}@main",
        mount="/data/train",
        kind=SourceKind.HF,
        revision=made["commit"],
        key=made["commit"].ljust(64, "0"),
    )
    return DatasetWork(dataset=dataset, endpoint=hub.url)


def _round(folder: Path, hub: Hub, work: DatasetWork) -> tuple[float, float, float, float]:
    """Return the seconds of the client alone, ours cold, a copy of it, and ours warm."""
    alone = _timed(lambda: _alone(folder, hub, work))
    remove_tree(folder / "alone")
    cache = folder / "cache"
    ours = _timed(lambda: _staged(cache, work))
    tree = next((cache / "1" / "trees").glob("[0-9a-f]*[0-9a-f]/"))
    copy = _timed(lambda: subprocess.run(["cp", "-r", tree, folder / "copy"], check=True))
    remove_tree(folder / "copy")
    again = _timed(lambda: _staged(cache, work))
    remove_tree(cache)
    return alone, ours, copy, again


def _timed(do: object) -> float:
    assert callable(do)
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _alone(folder: Path, hub: Hub, work: DatasetWork) -> None:
    """Fetch with the hub's client as its page says, in a process of its own as ours is."""
    name = work.dataset.source.removeprefix("hf://datasets/").partition("@")[0]
    words = [sys.executable, "-c", _ALONE, name, work.dataset.revision, str(folder / "alone")]
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    home = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": hub.url}
    subprocess.run(words, env={**os.environ, **quiet, **home}, check=True)
    shutil.rmtree(folder / "home", ignore_errors=True)


def _staged(cache: Path, work: DatasetWork) -> None:
    views: list[StagingView] = []
    stage = Stage(
        cache_dir=cache,
        shared=None,
        clock=elapsed_s,
        now=lambda: wall_clock().timestamp(),
        tell=views.append,
        notice=lambda _: None,
    )
    run = Staging(a_work(data=(work,), repository_id=1), stage)
    run.begin()
    try:
        run.wait(lambda: False)
    finally:
        run.close()
    assert views[-1].state == "ready"


def _rss(folder: Path, work: DatasetWork) -> float:
    """Return the most MiB that the real agent took while it staged; its client is a child."""
    bundle = folder / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(f'{{"bin": "{bundle}", "workspace": "workspace"}}')
    peak, over = [0.0], threading.Event()
    state = folder / "state"

    def look() -> None:
        while not over.wait(SAMPLE_S):
            peak[0] = max(peak[0], _agents_mib(str(state)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with ControlPlane(
            a_work(image=bundle.as_uri(), data=(work,), repository_id=1, deadline_s=LIMIT_S)
        ) as plane:
            options = ("--cache-dir", str(folder / "cache"))
            with an_agent(plane, state, engine="process", options=options) as agent:
                plane.wait(
                    lambda: bool(plane.beats) and plane.beats[-1]["state"] == "done", LIMIT_S
                )
                agent.wait(LIMIT_S)
            assert plane.exit["code"] == 0, plane.exit
    finally:
        over.set()
        watcher.join()
    return peak[0]


def _agents_mib(state: str) -> float:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            words = (status.parent / "cmdline").read_bytes().split(b"\0")
            if state.encode() in words and b"runner_images.agent" in words:
                line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
                return int(line.split()[1]) / 1024
        except (OSError, StopIteration):  # it has ended
            continue
    return 0.0
