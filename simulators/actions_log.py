"""Write a job's log as the runner does, with its masks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from simulators.actions_commands import Masks


class JobLog:
    """One job's log: a file, and an echo for whoever watches."""

    def __init__(self, path: Path, masks: Masks, echo: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("w", encoding="utf-8", errors="replace")
        self._masks = masks
        self._echo = echo
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write one or more lines, masked and dated."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        for line in self._masks.hide(text).splitlines() or [""]:
            with self._lock:
                self._file.write(f"{stamp} {line}\n")
                self._file.flush()
            self._echo(line)

    def group(self, title: str, lines: list[str]) -> None:
        """Write a folded block."""
        self.say(f"##[group]{title}")
        for line in lines:
            self.say(line)
        self.say("##[endgroup]")

    def text(self) -> str:
        """Give back all that was written."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the log."""
        with self._lock:
            self._file.close()
