"""Start `cynthus` as people do, at a terminal or in a pipe, and look for what it leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.stopwatch import Stopwatch

ROOT = Path(__file__).parents[1]
LIMIT_S = 90.0  # of anything: the machine may be busy with other tests
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
CTRL_C = b"\x03"


@dataclass
class Home:
    """A user's folder with a spec, and a temporary folder in which nothing may stay."""

    folder: Path
    temporary: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        """Return the only folder of outputs."""
        [found] = (self.folder / "cynthus-outputs").iterdir()
        return found

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text)

    def environ(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("CYNTHUS_", "PYTHON"))}
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), "TERM": "xterm-256color"}
        return {**kept, **own, **self.environment}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `cynthus …` in a pipe, to its end."""
        return subprocess.run(
            command(*words),
            cwd=self.folder,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def processes(self) -> list[str]:
        """Return what runs on behalf of this folder."""
        mark = str(self.temporary).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if mark in words + (entry / "environ").read_bytes():
                    found.append(words.replace(b"\0", b" ").decode("utf-8", "replace"))
        return found

    def wait_until_nothing_runs(self) -> float:
        """Return the seconds it took."""
        began = Stopwatch()
        while left := self.processes():
            assert began.wall_s < LIMIT_S, left
            time.sleep(0.05)  # processes tell nobody when they end
        return began.s


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cynthus", *words]


def containers(run_id: str) -> list[str]:
    """Return the containers of a run, also those that have stopped."""
    words = ["docker", "ps", "-aq", "--filter", f"label=cynthus.instance=cynthus-{run_id}-1"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


class Terminal:
    """`cynthus` with a terminal of its own."""

    def __init__(self, home: Home, *words: str, columns: int = 100) -> None:
        self.master, slave = os.openpty()
        size = (24).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        self.process = subprocess.Popen(
            command(*words),
            cwd=home.folder,
            env=home.environ(),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
        )
        os.close(slave)
        self.shown = ""

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, pattern: str, limit_s: float = LIMIT_S) -> None:
        """Read until a pattern is shown."""
        late_at = time.monotonic() + limit_s
        while not re.search(pattern, self.shown):
            assert time.monotonic() < late_at, self.shown
            assert self._read(), f"{pattern!r} was not shown:\n{self.shown}"

    def end(self, limit_s: float = LIMIT_S) -> int:
        """Read all that comes and return the exit code."""
        late_at = time.monotonic() + limit_s
        while self._read():
            assert time.monotonic() < late_at, self.shown
        return self.process.wait(limit_s)

    def _read(self) -> bool:
        """Take what comes within a second; False: the other end is closed."""
        ready, _, _ = select.select([self.master], [], [], 1.0)
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        os.close(self.master)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def terminal(home: Home, *words: str) -> Iterator[Terminal]:
    opened = Terminal(home, *words)
    try:
        yield opened
    finally:
        opened.close()
