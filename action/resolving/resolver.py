"""Have the resolver: uv from PATH when it is new enough, else the one we have locked."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

from action.failures import BuildFailed
from action.packages.versions import parse
from action.programs import capture
from action.resolving.builder import find_pip
from action.workflow import Console

OLDEST = "0.5.31"  # the oldest whose options and explanations our tests were tried with
LOCK = Path(__file__).resolve().parents[2] / "requirements" / "resolver.lock"
_INSTALL_LIMIT_S = 300  # 25 MB, over a slow line


def words(cache: Path, console: Console) -> tuple[str, ...]:
    """Return the words that start uv, having installed it below `cache` when need be.

    Safe to repeat and to do twice at once. Raises: BuildFailed.
    """
    beside = Path(sys.executable).parent / "uv"  # `pip install cynthus[action]` puts it there
    for found in (shutil.which("uv"), str(beside) if beside.is_file() else None):
        if found and new_enough(capture((found, "--version")).out):
            return (found,)
    if not LOCK.is_file():  # an installed package carries no lock files, but an extra with uv
        raise BuildFailed(
            f"uv: should be {OLDEST} or newer to lock the packages, found none. "
            f"Install it: `pip install 'cynthus[action]'`."
        )
    locked = LOCK.read_bytes()
    folder = cache / "tools" / f"uv-{hashlib.sha256(locked).hexdigest()[:16]}"
    program = folder / "bin" / "uv"
    if not program.is_file():
        install(LOCK, folder)
        console.say("uv installed, to lock the packages")
    return (str(program),)


def new_enough(told: str) -> bool:
    """Say whether what `uv --version` prints names a version we can work with."""
    match = re.match(r"uv (\S+)", told)
    found, oldest = parse(match[1]) if match else None, parse(OLDEST)
    return found is not None and oldest is not None and found >= oldest


def install(locked: Path, folder: Path) -> None:
    """Install by hash, into a folder that appears whole or not at all. Raises: BuildFailed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".installing-", dir=folder.parent))
    try:
        options = ("--require-hashes", "--no-deps", "--only-binary=:all:", "--quiet")
        target = ("--disable-pip-version-check", "--target", str(work / "uv"))
        asked = (*find_pip(), "install", *options, *target, "--requirement", str(locked))
        done = capture(asked, timeout_s=_INSTALL_LIMIT_S)
        if done.code != 0:
            last = [line for line in done.err.splitlines() if line.startswith("ERROR: ")][-1:]
            reason = last[0].removeprefix("ERROR: ") if last else "pip gave no reason"
            raise BuildFailed(f"uv, which locks the packages, could not be installed: {reason}")
        _publish(work / "uv", folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(installed: Path, folder: Path) -> None:
    try:
        installed.rename(folder)
    except OSError:
        if not (folder / "bin" / "uv").is_file():  # else: another build was quicker
            raise
