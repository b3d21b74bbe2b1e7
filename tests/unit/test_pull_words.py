"""What `cynthus pull` says of each file comes whole, however many come at once."""

from __future__ import annotations

import contextlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cynthus.cli_pull import teller


class OneAtATime(io.StringIO):
    """Text output that no two threads may write to at once."""

    def __init__(self) -> None:
        super().__init__()
        self._held, self.crowded = threading.Lock(), False

    def write(self, text: str) -> int:
        self.crowded |= not self._held.acquire(blocking=False)
        threading.Event().wait(0.001)  # as long as another would need to come in
        if self._held.locked():
            self._held.release()
        return super().write(text)


def test_files_that_come_at_once_are_told_one_after_another() -> None:
    output = OneAtATime()
    with contextlib.redirect_stdout(output), ThreadPoolExecutor(4) as pool:
        list(pool.map(teller(Path("out")), ("a", "b", "c", "d"), (1, 2, 3, 4000)))
    assert not output.crowded
    lines = sorted(output.getvalue().splitlines())
    assert lines == [
        *("out/a (1 bytes)", "out/b (2 bytes)", "out/c (3 bytes)", "out/d (4,000 bytes)")
    ]
