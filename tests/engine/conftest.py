"""Every database of these tests lies in memory: a life of a run is hundreds of commits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory import fast_disk


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory, where there is one."""
    with tempfile.TemporaryDirectory(prefix="cynthus-engine-", dir=fast_disk(tmp_path)) as name:
        yield Path(name)
