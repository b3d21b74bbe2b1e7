"""A folder of this machine as an action: copied once, then lent to every job by hard links.

A checkout has two thousand files, and a copy of them for every job took longer than most jobs. With
ACTIONS_RUNNER_SYMLINK_CACHED_ACTIONS the real runner goes further and has all jobs share a folder:
https://github.com/actions/runner/blob/main/src/Runner.Worker/ActionManager.cs
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from simulators.actions_git import GitError, git

_NEVER_COPIED = (".git", ".venv", "node_modules", "__pycache__")
_copying = threading.Lock()  # jobs that begin at once make one copy


def lend(folder: Path, kept: Path, into: Path) -> None:
    """Give `folder` as it is now to a job; copies are kept in `kept`.

    What a job adds, removes or replaces is its own. A file that it writes in place is that of the
    copy: the next job sees it by its time or size and gets a new one.
    """
    names = _names(folder)
    with _copying:
        mark = _mark(folder, names)
        copy = kept / mark
        if not copy.exists() or _mark(copy, names) != mark:
            shutil.rmtree(copy, ignore_errors=True)
            _copy(folder, names, copy)
        shutil.copytree(copy, into, copy_function=os.link)


def _names(folder: Path) -> list[str]:
    """List a checkout as git sees it: tracked and new files, nothing that is ignored."""
    try:
        listed = git(["ls-files", "-z", "--cached", "--others", "--exclude-standard"], folder)
    except (GitError, subprocess.SubprocessError):
        return sorted(_below(folder))
    return [name for name in listed.split("\0") if name and (folder / name).is_file()]


def _below(folder: Path) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NEVER_COPIED]
        for name in files:
            yield os.path.relpath(os.path.join(path, name), folder)


def _mark(folder: Path, names: list[str]) -> str:
    """Return what changes when a file does."""
    told = hashlib.sha256()
    for name in names:
        try:
            about = (folder / name).stat()
        except FileNotFoundError:
            return ""
        told.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_mode}\n".encode())
    return told.hexdigest()[:16]


def _copy(folder: Path, names: list[str], into: Path) -> None:
    """Copy files, and what Python compiled of them: every job would compile it anew."""
    compiled = f"{sys.implementation.cache_tag}.pyc"
    for name in names:
        source = folder / name
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, into / name)
        beside = source.parent / "__pycache__" / f"{source.stem}.{compiled}"
        if source.suffix == ".py" and beside.exists():
            (into / name).parent.joinpath("__pycache__").mkdir(exist_ok=True)
            shutil.copy2(beside, (into / name).parent / "__pycache__" / beside.name)
