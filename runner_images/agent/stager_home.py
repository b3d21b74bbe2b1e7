"""Find an interpreter that has the hubs' clients, or make one from locked requirements."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from runner_images.agent.workload import CannotStart

CLIENTS = {"hf": ("huggingface_hub",), "kaggle": ("kaggle", "six")}
LOCK = "data.lock"  # carried by the packed agent; in a checkout it lies in requirements/
MAKING_LIMIT_S = 600.0  # thirty small wheels: seconds, on a slow line minutes
_LINES = 3  # of pip's complaint


def interpreter(source: str, cache_dir: Path, stopping: Callable[[], bool]) -> str:
    """Return the interpreter to start the stager with: this one, or a virtual environment's.

    Safe to repeat, and for several agents of one machine at a time: it is made once.
    Raises: CannotStart when neither is to be had.
    """
    if all(importlib.util.find_spec(name) is not None for name in CLIENTS[source]):
        return sys.executable
    lock = _lock_text()
    if lock is None:
        raise CannotStart(
            f"data: this agent's Python has no {CLIENTS[source][0]}. Install `cynthus[data]` there",
            infrastructure=True,
        )
    place = _executable(cache_dir)
    home = place / f"stager-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (place / f"{home.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not home.is_dir():
            _make(home, lock, stopping)
    return str(home / "bin" / "python")


def _executable(cache_dir: Path) -> Path:
    """Return the folder for environments: Container-Optimized OS lets nothing below /var execute.

    https://cloud.google.com/container-optimized-os/docs/concepts/disks-and-filesystem
    """
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.statvfs(cache_dir).f_flag & os.ST_NOEXEC:
        return cache_dir
    place = Path(tempfile.gettempdir()) / f"cynthus-{os.getuid()}"  # the agent container's own
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():  # somebody else made it first
        raise CannotStart(f"{place}: belongs to another user. Remove it", infrastructure=True)
    return place


def _lock_text() -> bytes | None:
    packed = resources.files("runner_images.agent.stager") / LOCK
    if packed.is_file():
        return packed.read_bytes()
    here = Path(__file__).parents[2] / "requirements" / LOCK
    return here.read_bytes() if here.is_file() else None


def _make(home: Path, lock: bytes, stopping: Callable[[], bool]) -> None:
    """Make the environment at its own path, marked whole by its name's last step."""
    unfinished = home.with_name(f".{home.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    wanted = unfinished / "requirements.txt"
    wanted.write_bytes(lock)
    # Scripts of an environment name its path, but its interpreter finds itself: it may be renamed.
    # https://docs.python.org/3/library/venv.html
    # -I: no module of the folder that the agent happens to be in, nor of its environment.
    _run([sys.executable, "-I", "-m", "venv", str(unfinished)], stopping)
    pip = [str(unfinished / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet"]
    safe = ["--require-hashes", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    _run([*pip, *safe, "-r", str(wanted)], stopping)
    unfinished.rename(home)


def _run(words: list[str], stopping: Callable[[], bool]) -> None:
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CERT")
    proxies = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    environment = {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ}
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=MAKING_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unmade(str(error)) from error
    if stopping():
        raise CannotStart("data: stopped while its client was installed", infrastructure=False)
    if done.returncode:
        last = done.stdout.decode("utf-8", "replace").strip().splitlines()[-_LINES:]
        raise _unmade(" ".join(last)[:500])


def _unmade(why: str) -> CannotStart:
    text = (
        "data: the hubs' clients are not in this agent's Python and could not be installed: "
        f"{why}. Use an agent image with `cynthus[data]`"
    )
    return CannotStart(text, infrastructure=True)
