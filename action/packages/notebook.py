"""Take the code out of a Jupyter notebook, with the lines it stands on. Pure.

https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Cell magics whose cell is Python all the same; any other hands the cell to another language.
_PYTHON_MAGICS = {"capture", "prun", "time", "timeit", "python", "python3"}
_MAGIC = re.compile(r"(\s*)(?:%{1,2}[A-Za-z]|!|\?|[A-Za-z_][\w.]*\s*=\s*[%!]|[\w.]+\?{1,2}\s*$)")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The Python code of a cell; magics and shell lines are replaced by nothing."""

    code: str
    lines: tuple[int, ...]  # of the notebook's file, for each line of the code


def cells(text: str) -> tuple[Cell, ...] | None:
    """Return a notebook's code cells, or None for what is no notebook of Python."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or not _speaks_python(tree):
        return None
    where = _Finder(text)
    return tuple(cell for source in _sources(tree) if (cell := _cell(source, where)))


def _speaks_python(tree: dict[str, Any]) -> bool:
    metadata = tree.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    language = kernel.get("language", "python") if isinstance(kernel, dict) else "python"
    return str(language).lower() == "python"


def _sources(tree: dict[str, Any]) -> Iterator[list[str]]:
    """Yield each code cell's lines; version 3 of the format calls things by other names."""
    found = tree.get("cells")
    if not isinstance(found, list):
        sheets = tree.get("worksheets")
        sheets = sheets if isinstance(sheets, list) else []
        found = [c for s in sheets if isinstance(s, dict) for c in s.get("cells") or ()]
    for cell in found:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        if isinstance(source, list):
            source = "".join(part for part in source if isinstance(part, str))
        if isinstance(source, str):
            yield source.splitlines()


class _Finder:
    """Find in the notebook's file the line on which a line of code stands, going forward."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._at = 0

    def find(self, code: str) -> int:
        """Return the line, or that of the one before when the file writes it in another way."""
        wanted = json.dumps(code, ensure_ascii=False)[1:-1]
        if wanted:
            for number in range(self._at, len(self._lines)):
                if wanted in self._lines[number]:
                    self._at = number
                    break
        return self._at + 1


def _cell(source: list[str], where: _Finder) -> Cell | None:
    lines = tuple(where.find(line) for line in source)
    first = next((line.strip() for line in source if line.strip()), "")
    if first.startswith("%%"):
        magic = re.match(r"%%(\w*)", first)
        if magic is None or magic[1] not in _PYTHON_MAGICS:
            return None
    return Cell(code="\n".join(_python(line) for line in source) + "\n", lines=lines)


def _python(line: str) -> str:
    match = _MAGIC.match(line)
    return f"{match[1]}pass" if match else line
