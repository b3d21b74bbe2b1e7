"""Say where a file with a name that somebody else made may go: below one folder, or nowhere."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from cynthus.errors import Refused

OWN_FOLDER = ".cynthus-pull"  # in the target: what has half come
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = re.compile(r"(?i)\A(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?\Z")
_NOT_THERE = re.compile(r'[<>:"\\|?*]')
_LONGEST_PART_BYTES = 255  # ext4, APFS, NTFS


def name_fault(path: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return why a file may not have this name here; None: it may. Pure."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "should stay inside the folder"
    if parts[0].casefold() == OWN_FOLDER:
        return "should not be in the folder that `cynthus pull` works in"
    if any(_is_git(part) for part in parts):
        return "should not be in a folder of git, whose settings are commands"
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in path):
        return "should have no control characters"
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_PART_BYTES for part in parts):
        return f"should have no part of more than {_LONGEST_PART_BYTES} bytes"
    if windows and any(_DEVICES.match(p) or _NOT_THERE.search(p) or p[-1] in ". " for p in parts):
        return "should be a name that Windows can have"
    return None


def _is_git(part: str) -> bool:
    """Say whether any disk takes a name for `.git`: git's own rules, CVE-2014-9390.

    https://github.com/git/git/blob/master/path.c (is_ntfs_dotgit), utf8.c (is_hfs_dotgit)
    """
    seen = "".join(c for c in part if unicodedata.category(c) != "Cf").casefold()
    return seen.partition(":")[0].rstrip(". ") in {".git", "git~1"}


def folded(path: str) -> str:
    """Return a name that is the same for all paths that a disk which ignores case takes for one."""
    return unicodedata.normalize("NFC", path).casefold()


def ignores_case(folder: Path) -> bool:
    """Say whether a folder that can be written holds `A` and `a` for one name."""
    probe = folder / ".Cynthus-Probe"
    probe.touch()
    try:
        return (folder / ".cynthus-probe").exists()
    finally:
        probe.unlink(missing_ok=True)


def place(folder: Path, path: str) -> Path:
    """Return where a file goes, with its folders made; no link on the way is followed.

    Raises: Refused.
    """
    fault = name_fault(path)
    if fault is not None:
        raise Refused(f"output {path[:200]!r}: {fault}. It is left out.")
    target = folder.joinpath(*path.split("/"))
    above = folder
    for part in path.split("/")[:-1]:
        above /= part
        if above.is_symlink():
            raise Refused(f"output {path[:200]!r}: should stay inside the folder. It is left out.")
        try:
            above.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise Refused(f"output {path[:200]!r}: {above} is a file. It is left out.") from error
    if target.is_dir() and not target.is_symlink():
        raise Refused(f"output {path[:200]!r}: is a folder here. It is left out.")
    return target
