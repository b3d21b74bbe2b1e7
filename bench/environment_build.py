"""How long an environment takes to build, beside `pip install` of the same packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.image import bench_image
from bench.result import Result, told
from demo.processes import Programs, clean_environment
from demo.services import docker_client, registry

# Some 70 MB of wheels, as many runs begin; another version each round, since a builder that found
# the last round's layers would measure nothing.
PACKAGES = tuple(f"scikit-learn=={v}\npandas==2.3.3\n" for v in ("1.7.0", "1.7.1", "1.7.2"))
SPEC = "version: 1\nname: bench\nrun: python3 main.py\nimage: {requirements: requirements.txt}\n"


def environment_build() -> list[Result]:
    """Measure in turn: pip alone, ours with nothing there, ours once the environment is there."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-env-") as place:
        folder = Path(place)
        programs = Programs(folder / "log")
        try:
            images = registry(programs, folder / "registry").address
            base = _pushed_base(images)
            rounds = [_round(folder / str(n), images, base, n) for n in range(len(PACKAGES))]
        finally:
            programs.stop()
    pip = [one["pip"] for one in rounds]
    beside = f"pip install {', '.join(f'{s:.1f}' for s in pip)} s; locked, built, pushed, appended"
    again = "an empty runner without Docker, the environment in the registry"
    return [
        told("environment_build_s", "s", [one["built"] for one in rounds], beside),
        told("environment_there_s", "s", [one["there"] for one in rounds], again),
    ]


def _pushed_base(images: str) -> str:
    """Have a base in the registry, where a runner without Docker can ask for its digest."""
    docker, name = str(docker_client()), f"{images}/bench/base:python"
    subprocess.run([docker, "tag", bench_image(), name], check=True)
    subprocess.run([docker, "push", "--quiet", name], check=True, stdout=subprocess.DEVNULL)
    return name


def _round(folder: Path, images: str, base: str, number: int) -> Mapping[str, float]:
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "cynthus.yaml").write_text(SPEC)
    (source / "requirements.txt").write_text(PACKAGES[number])
    (source / "main.py").write_text(f"print({number})\n")
    push = ["--folder", str(source), "--push", f"{images}/round-{number}/bench:one", "--json"]
    push += ["--base-image", base]
    words = [sys.executable, "-m", "action", "build", *push]
    return {
        "pip": _pip(folder, source / "requirements.txt"),
        "built": _timed(words, _fresh(folder / "home-1")),
        "there": _timed(words, {**_fresh(folder / "home-2"), "PATH": "/nowhere"}),
    }


def _pip(folder: Path, requirements: Path) -> float:
    """Install as a job would: a new virtual environment, no cache."""
    venv = folder / "venv"
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    pip = [str(venv / "bin" / "pip"), "install", *options, "-r", str(requirements)]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def _fresh(home: Path) -> dict[str, str]:
    """Return the environment of a runner that has nothing: another home, no cache."""
    home.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": os.getcwd()}
    return {**clean_environment(), **own, "CYNTHUS_CACHE_DIR": str(home / "cache")}


def _timed(words: list[str], environment: Mapping[str, str]) -> float:
    begin = time.monotonic()
    done = subprocess.run(words, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the builder failed: {done.stderr[-2000:]}")
    json.loads(done.stdout.strip().splitlines()[-1])
    return time.monotonic() - begin
