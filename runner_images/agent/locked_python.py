"""Find an interpreter that has certain libraries, or make one from locked requirements."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from runner_images.agent.workload import CannotStart

MAKING_LIMIT_S = 600.0  # thirty small wheels: seconds, on a slow line minutes
LOOK_S = 0.5  # how often a stop is looked for
_LINES = 3  # of pip's complaint
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CERT")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


@dataclass(frozen=True, kw_only=True)
class Libraries:
    """What a child of the agent imports."""

    modules: tuple[str, ...]
    extra: str  # of our package; its lock is carried by the packed agent
    key: str  # of the spec: what a fault is about


HUGGING_FACE = Libraries(modules=("huggingface_hub",), extra="data", key="data")
KAGGLE = Libraries(modules=("kaggle", "six"), extra="data", key="data")
AGE = Libraries(modules=("pyrage",), extra="age", key="encrypt_to")


def carried_lock(extra: str) -> bytes | None:
    """Return the locked requirements of an extra; None: this agent was packed without."""
    packed = resources.files("runner_images.agent") / f"{extra}.lock"
    if packed.is_file():
        return packed.read_bytes()
    here = Path(__file__).parents[2] / "requirements" / f"{extra}.lock"  # a checkout's
    return here.read_bytes() if here.is_file() else None


def interpreter(
    libraries: Libraries,
    cache_dir: Path,
    stopping: Callable[[], bool],
    lock_of: Callable[[str], bytes | None] = carried_lock,
) -> str:
    """Return an interpreter that has the libraries: this one, or a virtual environment's.

    Safe to repeat, and for several agents of one machine at a time: it is made once.
    Raises: CannotStart when neither is to be had, or when it was stopped.
    """
    if all(importlib.util.find_spec(name) is not None for name in libraries.modules):
        return sys.executable
    lock = lock_of(libraries.extra)
    if lock is None:
        raise CannotStart(
            f"{libraries.key}: this agent's Python has no {libraries.modules[0]}."
            f" Install `cynthus[{libraries.extra}]` there",
            infrastructure=True,
        )
    place = _executable(cache_dir)
    home = place / f"{libraries.extra}-{hashlib.sha256(lock).hexdigest()[:16]}"
    with _alone(place / f"{home.name}.lock", libraries, stopping):
        if not home.is_dir():
            _make(home, lock, libraries, stopping)
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


@contextlib.contextmanager
def _alone(path: Path, libraries: Libraries, stopping: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock among all agents of this machine."""
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _check(libraries, stopping)
                time.sleep(LOOK_S)
        yield


def _make(home: Path, lock: bytes, libraries: Libraries, stopping: Callable[[], bool]) -> None:
    """Make the environment at its own path, marked whole by its name's last step."""
    unfinished = home.with_name(f".{home.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    wanted = unfinished / "requirements.txt"
    wanted.write_bytes(lock)
    for words in _steps(unfinished, wanted):
        fault = _fault(words, lambda: _check(libraries, stopping))
        if fault is not None:
            raise CannotStart(
                f"{libraries.key}: {libraries.modules[0]} is not in this agent's Python and could"
                f" not be installed: {fault}. Use an agent image with `cynthus[{libraries.extra}]`",
                infrastructure=True,
            )
    unfinished.rename(home)


def _steps(home: Path, wanted: Path) -> Iterator[list[str]]:
    """Say what to run, in order: the environment, then what is locked and nothing else."""
    # Scripts of an environment name its path, but its interpreter finds itself: it may be renamed.
    # https://docs.python.org/3/library/venv.html
    python = str(home / "bin" / "python")
    make, pip = [sys.executable, "-P", "-m", "venv"], [python, "-P", "-m", "pip"]
    if importlib.util.find_spec("pip") is not None:  # without a pip of its own it takes no second
        make, pip = (
            [*make, "--without-pip"],
            [sys.executable, "-P", "-m", "pip", "--python", python],
        )
    yield [*make, str(home)]
    safe = ["--require-hashes", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    yield [*pip, "install", "--quiet", *safe, "-r", str(wanted)]


def _check(libraries: Libraries, stopping: Callable[[], bool]) -> None:
    if stopping():
        text = f"{libraries.key}: stopped while {libraries.modules[0]} was installed"
        raise CannotStart(text, infrastructure=False)


def _fault(words: list[str], look: Callable[[], None]) -> str | None:
    """Run a program to its end and return why it failed; what `look` raises ends it."""
    names = (*_KEPT, *_PROXIES)
    try:
        child = subprocess.Popen(
            words,
            env={name: os.environ[name] for name in names if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # venv and pip start others: they end with it
        )
    except OSError as error:
        return str(error)
    until = time.monotonic() + MAKING_LIMIT_S
    try:
        said = None
        while said is None:
            look()
            if time.monotonic() > until:
                return f"not done within {MAKING_LIMIT_S:.0f} s"
            with contextlib.suppress(subprocess.TimeoutExpired):
                said, _ = child.communicate(timeout=LOOK_S)
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    last = said.decode("utf-8", "replace").strip().splitlines()[-_LINES:]
    return " ".join(last)[:500] if child.returncode else None
