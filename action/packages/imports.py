"""Infer packages from what the source imports, where nothing declares them.

Scanned is every `.py` file and notebook that goes into the image, by the same ignore rules. Files
that the run's command starts, and what they import of the repository, are judged strictly: an
import that no package is known for is a question to the user, never a guess. Other files (tests,
examples) add what is known and are only told about. A command that starts a script of another kind
says nothing about what it reaches: then every file is judged strictly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from action.packages import notebook
from action.packages.declared import LONGEST_FILE_BYTES, Declared
from action.packages.import_findings import Wanted, judge, python_numbers
from action.packages.import_scan import Scan, scan, shifted
from action.packages.import_tree import tree_of
from action.source import own_file, source, walk
from cynthus.errors import UserError

_SUFFIXES = (".py", ".ipynb")


def infer(root: Path, src: str, wanted: Wanted) -> Declared | None:
    """Return the packages that the source's imports need; None when it has no Python at all.

    A wish stands at the first line that wants it. Raises: UserError for a source that cannot be
    read; what is wrong in it comes back as faults.
    """
    folder, python = (root / src).resolve(), python_numbers(wanted.python)
    try:
        files = tuple(_files(folder))
        # A name may hold bytes that are no text; what is told of it has to be printed.
        code = {source.shown(p): _start(folder, p) for p in files if p.endswith(_SUFFIXES)}
    except OSError as error:
        where = source.shown(os.path.relpath(os.fsdecode(error.filename or folder), root))
        raise UserError(
            f"src: should hold files that can be read, found `{where}`: {error.strerror}. "
            f"Correct it."
        ) from None
    if not code:
        return None
    scans = {path: scan_file(path, raw, python) for path, raw in code.items()}
    return judge(scans, tree_of(files), wanted).below(src)


def _files(folder: Path) -> Iterator[str]:
    """Yield the files that go into the image; a link to a folder counts as a package there."""
    for found in walk.kept(folder, source.rules_of(folder)):
        if found.held or (found.entry.is_symlink() and not _leads_inside(folder, found)):
            continue
        if found.entry.is_file():
            yield found.path
        elif found.entry.is_symlink() and found.entry.is_dir():
            yield f"{found.path}/__init__.pyd"


def _leads_inside(folder: Path, found: walk.Found) -> bool:
    """Say whether a link is one that the image has, and that leads to something there."""
    target = os.readlink(found.entry.path)
    return walk.stays_inside(folder, found.path, target) and Path(found.entry.path).exists()


def _start(folder: Path, path: str) -> bytes:
    return own_file.read(folder, path, LONGEST_FILE_BYTES + 1)


def scan_file(path: str, raw: bytes, python: tuple[int, int]) -> Scan:
    """Return what a file imports; never raises. Pure."""
    if len(raw) > LONGEST_FILE_BYTES:  # data written as code: nobody writes a MiB by hand
        return Scan(fault="more than 1 MiB")
    if not path.endswith(".ipynb"):
        return scan(raw, python)
    cells = notebook.cells(raw.decode("utf-8", "replace"))
    if cells is None:
        return Scan(fault="no notebook of Python")
    found = [shifted(scan(cell.code, python), cell.lines) for cell in cells]
    broken = next((one for one in found if one.fault), Scan())
    imports = tuple(one for each in found for one in each.imports)
    return Scan(imports=imports, fault=broken.fault, fault_line=broken.fault_line)
