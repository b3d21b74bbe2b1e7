"""Read what the machine's boot left for the agent: when each step was done, or why one failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cynthus.wire import Mark

FAULT_LIMIT = 500  # characters: a sentence with the last line of an installer's log
MARKS_LIMIT = 20  # the boot has three
_MARK = re.compile(r"([a-z_]{1,32}) ([0-9T:.+Z-]{19,35})")


def boot_marks(folder: Path | None) -> tuple[Mark, ...]:
    """Return the steps that `marks` in the boot's folder tells of; what is misshapen is left out.

    One a line: its name, a space, the moment in ISO 8601.
    """
    lines = _text(folder, "marks").splitlines()
    return tuple(_marks(lines[:MARKS_LIMIT]))


def _marks(lines: list[str]) -> Iterator[Mark]:
    for line in lines:
        found = _MARK.fullmatch(line)
        try:
            moment = datetime.fromisoformat(found[2]) if found else None
        except ValueError:
            continue
        if found and moment is not None and moment.tzinfo is not None:
            yield Mark(name=found[1], at=moment)


def boot_fault(folder: Path | None) -> str:
    """Return why nothing can run on this machine, or nothing when all is well."""
    return " ".join(_text(folder, "fault").split())[:FAULT_LIMIT]


def _text(folder: Path | None, name: str) -> str:
    if folder is None:
        return ""
    try:
        return (folder / name).read_text("utf-8", "replace")
    except OSError:  # a boot without faults leaves no such file
        return ""
