"""A program of this machine that starts with its first user and ends with its last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demo.processes import Program, wait_until

# Those that were started by this process, ended or not: it must not forget a child that runs.
_children: list[Program] = []


@dataclass(frozen=True)
class SharedProgram:
    """A program that several processes use at once, each for a time of its own.

    Users hold a shared lock on a file; the kernel takes it from those that are killed:
    https://man7.org/linux/man-pages/man2/flock.2.html. A program that answers without having been
    started here belongs to somebody else and is never ended.
    """

    folder: Path  # where its users leave word for one another
    name: str  # as /proc/PID/comm has it
    answers: Callable[[], bool]
    start: Callable[[], Program]  # raises StageError when it does not come up

    def use(self) -> Use:
        """Return a use of it, having started it where it does not answer. Raises StageError."""
        with self._one_at_a_time():
            if not self.answers():
                _children.append(self.start())
                self._started.write_text(str(_children[-1].process.pid))
            held = self._users()
            fcntl.flock(held, fcntl.LOCK_SH)
            return Use(self, held)

    def leave(self, held: IO[str]) -> None:
        """End one use, and the program when that was the last."""
        with self._one_at_a_time():
            held.close()
            if self._started.exists() and self._used_by_nobody():
                self._end(int(self._started.read_text()))
                self._started.unlink()

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    @property
    def _started(self) -> Path:
        return self.folder / "started"

    def _users(self) -> IO[str]:
        return (self.folder / "users").open("a")

    def _used_by_nobody(self) -> bool:
        with self._users() as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _end(self, pid: int) -> None:
        """End it, perhaps another process's child, unless the number is another program's now."""
        if self._runs(pid):
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not self._runs(pid), f"the end of {self.name}")

    def _runs(self, pid: int) -> bool:
        try:
            text = Path(f"/proc/{pid}/stat").read_text("utf-8")
        except OSError:  # it has ended
            return False
        name, _, rest = text.partition("(")[2].rpartition(")")
        return name == self.name and rest.split()[0] not in "ZX"


@dataclass(frozen=True)
class Use:
    """One use of a shared program."""

    program: SharedProgram
    held: IO[str]

    def stop(self) -> None:
        """End this use. Safe to repeat."""
        if not self.held.closed:
            self.program.leave(self.held)
