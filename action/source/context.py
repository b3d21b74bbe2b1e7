"""Copy the files that belong in an image into a folder of their own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from action.source import ignore, source
from action.source.source import Kind

rules_of = source.rules_of  # both ways to an image read the same ignore files


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What was copied."""

    files: int
    size_bytes: int
    told: tuple[str, ...] = ()  # a sentence for each that was left out, or let in by name


def stage(folder: Path, target: Path, rules: ignore.Ignore, *, link: bool) -> Staged:
    """Copy `folder` to `target` by the rules; with `link` the files share their bytes on disk.

    Takes the same files as the layer of a run's image does, but of any size.
    Raises: UserError for what cannot be read.
    """
    chosen = source.select(folder, ".", rules, limits=None)
    put = _link_or_copy if link else _copy
    target.mkdir(parents=True, exist_ok=True)
    for item in chosen.items:  # a folder comes before what is in it
        path = target / item.path
        if item.kind is Kind.FOLDER:
            path.mkdir(exist_ok=True)
        elif item.kind is Kind.LINK:
            path.symlink_to(item.target)
        else:
            put(str(chosen.folder / item.path), path)
    told = source.sentences(chosen)
    return Staged(files=chosen.files, size_bytes=chosen.size_bytes, told=told)


def _link_or_copy(path: str, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        _copy(path, target)


def _copy(path: str, target: Path) -> None:
    shutil.copy2(path, target)
