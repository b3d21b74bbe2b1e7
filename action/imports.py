"""Infer packages from what the source imports, where nothing declares them.

Scanned is every `.py` file and notebook that goes into the image, by the same ignore rules. Files
that the run's command starts, and what they import of the repository, are judged strictly: an
import that no package is known for is a question to the user, never a guess. Other files (tests,
examples) add what is known and are only told about. A command that starts a script of another kind
says nothing about what it reaches: then every file is judged strictly.
"""

from __future__ import annotations

from pathlib import Path

from action import notebook, source
from action.declared import LONGEST_FILE_BYTES, Declared
from action.import_findings import Wanted, judge, python_numbers
from action.import_scan import Scan, scan, shifted
from action.import_tree import tree_of
from action.source import Kind
from cynthus.errors import UserError

_SUFFIXES = (".py", ".ipynb")


def infer(root: Path, src: str, wanted: Wanted) -> Declared | None:
    """Return the packages that the source's imports need; None when it has no Python at all.

    A wish stands at the first line that wants it. Raises: UserError for a source that cannot be
    read; what is wrong in it comes back as faults.
    """
    chosen = source.select(root, src, source.rules_of(root / src), limits=None)
    files = [item.path for item in chosen.items if item.kind is Kind.FILE]
    python = python_numbers(wanted.python)
    code = [path for path in files if path.endswith(_SUFFIXES)]
    if not code:
        return None
    scans = {path: scan_file(path, _bytes(chosen.folder / path), python) for path in code}
    return judge(scans, tree_of(files), wanted).below(src)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{path.name}: should be a readable file, found: {error.strerror}. Correct its rights."
        ) from None


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
