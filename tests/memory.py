"""Where a test's database lies: in memory, if there is room, so that its commits cost no disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30  # ten times what PostgreSQL and its log take here; a container may have 64 MiB


def fast_disk(otherwise: Path) -> Path:
    """Return a folder for what need survive the end of a process only, never a power cut."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        return _MEMORY
    return otherwise
