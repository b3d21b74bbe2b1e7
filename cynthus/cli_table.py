"""Print rows as a table: with `rich` on a terminal, as plain columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from cynthus.cli_connection import harmless

Rows = Sequence[Sequence[str]]


def print_table(heads: Sequence[str], rows: Rows, colours: Mapping[str, str] | None = None) -> None:
    """Print the rows under their heads; `colours` names the cells that have one."""
    shown = [[harmless(cell).replace("\n", " ") for cell in row] for row in rows]
    if sys.stdout.isatty() and _rich(heads, shown, colours or {}):
        return
    widths = [max(map(len, column)) for column in zip(heads, *shown, strict=True)]
    for row in ([name.upper() for name in heads], *shown):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _rich(heads: Sequence[str], rows: Rows, colours: Mapping[str, str]) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(*heads, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    Console().print(table)
    return True
