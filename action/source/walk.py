"""Find what lies below a folder and is kept by its ignore rules."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from action.source import ignore, likely_secrets

# A layer cannot hold such a name: unpacking deletes what the rest of the name says.
# https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Found:
    """One thing below the folder."""

    entry: os.DirEntry[str]
    path: str  # relative, with `/`
    held: bool  # by its name or a folder's above, tools keep credentials there


def kept(folder: Path, rules: ignore.Ignore) -> Iterator[Found]:
    """Yield what the rules keep, in no order.

    A kept file's folder is missing where the rules leave that one out.
    Raises: OSError for a folder that cannot be read.
    """
    waiting: list[tuple[str, tuple[bool, ...], bool]] = [("", (), False)]
    while waiting:
        above, matched, held_above = waiting.pop()
        start = f"{above}/" if above else ""
        with os.scandir(folder / above) as entries:
            for entry in entries:
                if entry.name in ignore.NEVER:
                    continue
                path = start + entry.name
                judged = rules.judge(path, matched)
                held = held_above or likely_secrets.by_name(path)
                if not judged.out:
                    yield Found(entry, path, held)
                if _is_folder(entry) and _enters(path, rules, out=judged.out, held=held):
                    waiting.append((path, judged.matched, held))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(WHITEOUT)


def _enters(path: str, rules: ignore.Ignore, *, out: bool, held: bool) -> bool:
    if held:
        return rules.lets_in_below(path)
    return not out or rules.may_keep_inside


def stays_inside(folder: Path, path: str, target: str) -> bool:
    """Say whether a link at `path` ends below `folder`, as it is written and as it is followed.

    An absolute one does not: it names a folder of the builder's machine. Nor does one that leaves
    the source and comes back by the folder's name, which is `workspace` in the image.
    """
    if target.startswith("/"):
        return False
    depth = path.count("/")
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    end = os.path.realpath(folder / path)
    return end == str(folder) or end.startswith(f"{folder}/")


def special(mode: int) -> str:
    """Name what is neither file, folder nor link."""
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"
