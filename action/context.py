"""Copy the files that belong in an image into a folder of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from action import ignore


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What was copied."""

    files: int
    size_bytes: int
    secrets: tuple[str, ...] = field(default=())  # left out because tools keep credentials there
    special: tuple[str, ...] = field(default=())  # sockets, pipes and devices cannot be copied


def stage(source: Path, target: Path, rules: ignore.Ignore, *, link: bool) -> Staged:
    """Copy `source` to `target` by the rules; with `link` the files share their bytes on disk."""
    put = _link_or_copy if link else _copy
    files, size, secrets, special = 0, 0, [], []
    target.mkdir(parents=True, exist_ok=True)
    for entry, path in _walk(source, rules):
        if ignore.secret(path):
            secrets.append(path)
        elif rules.leaves_out(path):
            continue
        elif entry.is_symlink():
            _place(target / path).symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            _place(target / path).mkdir(exist_ok=True)
        elif entry.is_file():
            put(entry.path, _place(target / path))
            files, size = files + 1, size + entry.stat().st_size
        else:
            special.append(path)
    return Staged(files=files, size_bytes=size, secrets=tuple(secrets), special=tuple(special))


def rules_of(folder: Path, *names: str) -> ignore.Ignore:
    """Return the rules of the first ignore file that the folder has."""
    for name in (*names, ".dockerignore"):
        if (folder / name).is_file():
            return ignore.parse((folder / name).read_text("utf-8", "replace"))
    return ignore.Ignore()


def _walk(source: Path, rules: ignore.Ignore) -> Iterator[tuple[os.DirEntry[str], str]]:
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(source / above) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{above}/{entry.name}" if above else entry.name
            yield entry, path
            if entry.is_dir(follow_symlinks=False) and _enters(path, rules):
                waiting.append(path)


def _enters(path: str, rules: ignore.Ignore) -> bool:
    if ignore.never(path):
        return False
    return rules.may_keep_inside or not rules.leaves_out(path)


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link_or_copy(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        _copy(source, target)


def _copy(source: str, target: Path) -> None:
    shutil.copy2(source, target)
