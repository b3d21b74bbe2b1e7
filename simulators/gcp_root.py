"""Keep the root file system of simulated instances: made on first use and on every change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from simulators.gcp_machines import PlayError

_HERE = Path(__file__).parent
SCRIPT = _HERE / "gcp_root.sh"
PROGRAMS = ("apt-get", "dpkg-deb", "tar", "cc", "unshare", "chroot")
LONGEST_S = 300  # 15 s measured; a slow mirror is given twenty times that
UNUSED_S = 7 * 24 * 3600  # machines live for minutes; other working copies have trees of their own


def default_cache() -> Path:
    """Return the user's cache folder: https://specifications.freedesktop.org/basedir-spec/latest/."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cynthus"


def root_tree(cache: Path) -> Path:
    """Return the tree, made now unless the cache has it. Raises PlayError."""
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / f"gcp-root-{_key()}"
    with (cache / "gcp-root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that need it at once make it once
        if not tree.is_dir():
            _make(tree)
            _forget_old(cache)
        os.utime(tree)
    return tree


def _key() -> str:
    """Name what the tree is made from: the script, the files laid over it, the library."""
    files = [SCRIPT, _HERE / "gcp_nvml.c", *(_HERE / "gcp_root_files").rglob("*")]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(_HERE)}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _make(tree: Path) -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise PlayError(
            f"the root file system of instances: making it needs {', '.join(missing)}, not found "
            "on PATH. On Debian as root: make system."
        )
    work = Path(tempfile.mkdtemp(prefix="gcp-root-new-", dir=tree.parent))
    try:
        made = work / "tree"
        words = [str(SCRIPT), str(made)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LONGEST_S)
        if done.returncode != 0:
            raise PlayError(
                f"the root file system of instances: {SCRIPT.name} ended with {done.returncode}: "
                f"{(done.stderr or done.stdout).strip()[-800:]}"
            )
        made.rename(tree)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _forget_old(cache: Path) -> None:
    """Delete trees that nobody has asked for lately; one that is asked for is in use."""
    for path in cache.glob("gcp-root-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > UNUSED_S:
            shutil.rmtree(path, ignore_errors=True)
