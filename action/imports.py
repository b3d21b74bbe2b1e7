"""Infer packages from what the source imports, where nothing declares them.

Scanned is every `.py` file and notebook that goes into the image, by the same ignore rules. Files
that the run's command starts, and what they import of the repository, are judged strictly: an
import that no package is known for is a question to the user, never a guess. Other files (tests,
examples) add what is known and are only told about. A command that starts a script of another kind
says nothing about what it reaches: then every file is judged strictly.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from action import notebook, source
from action.declared import LONGEST_FILE_BYTES, Declared, Wish, fault
from action.import_names import package_of
from action.import_scan import Import, Scan, scan, shifted
from action.import_tree import Tree, reached, started, tree_of
from action.source import Kind
from cynthus.errors import Fault

_SUFFIXES = (".py", ".ipynb")
_DEFAULT_PYTHON = (3, 11)  # the oldest of the catalogue's
_MOST_TOLD = 20  # of a kind, in one note; the rest is counted

# Modules of the standard library that newer Pythons lack, and the version they went with:
# https://docs.python.org/3/whatsnew/3.12.html#removed and .../3.13.html#removed
_GONE = {
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), (3, 12)),
    **dict.fromkeys(
        (
            *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap"),
            *("msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau"),
            *("telnetlib", "uu", "xdrlib"),
        ),
        (3, 13),
    ),
}
# … and those that older ones lack.
_NEW = {"tomllib": (3, 11), "annotationlib": (3, 14), "compression": (3, 14)}
_NEVER_PACKAGES = {"__main__", "_typeshed"}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The scanned files of a source; paths are relative to it."""

    scans: Mapping[str, Scan]
    tree: Tree


def infer(root: Path, src: str, *, run: str | Sequence[str], python: str | None) -> Declared | None:
    """Return the packages that the source's imports need; None when it has no Python at all.

    A wish stands at the first line that wants it. Raises: UserError for a source that cannot be
    read; what is wrong in it comes back as faults.
    """
    chosen = source.select(root, src, source.rules_of(root / src), limits=None)
    files = [item.path for item in chosen.items if item.kind is Kind.FILE]
    version = _numbers(python)
    scans = {
        path: _scanned(chosen.folder / path, version)
        for path in files
        if path.endswith(_SUFFIXES)
    }
    if not scans:
        return None
    sources = Sources(scans=scans, tree=tree_of(files))
    return judge(sources, run=run, python=version, shown=lambda path: _shown(src, path))
