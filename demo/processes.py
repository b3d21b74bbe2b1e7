"""Start the programs that a stage needs, then end exactly those."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

START_LIMIT_S = 60.0  # a cold machine with two busy cores starts Python programs in seconds
STOP_LIMIT_S = 30.0  # the server promises to drain within 30 s
TICK_S = 0.02  # a hundredth of what programs take to start, and a look costs next to nothing
PORTS = range(10_000, 29_000)  # below 32768, where the kernel's own begin, and 29500, where gangs'
SHARE = 100  # ports of one process: a stage takes five, and they are asked for one after another
# One for each user of the machine: nobody may open another's files there.
PORTS_FOLDER = Path(tempfile.gettempdir()) / f"cynthus-ports-{os.geteuid()}"
_held: list[IO[str]] = []  # open as long as this process is: whoever closes it gives the ports away


class StageError(Exception):
    """Something that the stage needs could not be had; the text says what to do."""


@dataclass
class Program:
    """One running program: its log lies in a file, its end is ours."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Say whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it politely, then for certain. Safe to repeat."""
        if not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


@dataclass
class Programs:
    """The programs of one stage, stopped in reverse order."""

    folder: Path
    running: list[Program] = field(default_factory=list)

    def start(
        self, name: str, words: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> Program:
        """Start a program with its output in `<folder>/<name>.log`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                start_new_session=True,  # Ctrl-C reaches the stage, which ends things in order
            )
        program = Program(name, process, log)
        self.running.append(program)
        return program

    def stop(self) -> None:
        """End all of them, last started first."""
        while self.running:
            self.running.pop().stop()


def wait_until(
    ready: Callable[[], bool],
    what: str,
    program: Program | None = None,
    limit_s: float = START_LIMIT_S,
) -> None:
    """Wait until `ready()`; raises StageError with the program's log when it never is."""
    tick = threading.Event()
    for _ in range(int(limit_s / TICK_S)):
        if ready():
            return
        if program is not None and not program.running:
            raise StageError(f"{what}: the program ended at once. Its log ends:\n{program.tail()}")
        tick.wait(TICK_S)
    log = f" Its log ends:\n{program.tail()}" if program else ""
    raise StageError(f"{what}: not ready within {limit_s:.0f} s.{log}")


def free_port() -> int:
    """Return a loopback port that nothing uses now and nobody else takes before its server does.

    Port 0 would give one of those that the kernel also gives to outgoing connections, and each of
    these may take it while a server is started on it, or started again: ip_local_port_range in
    https://docs.kernel.org/networking/ip-sysctl.html. Other processes that ask here have ports of
    their own. Raises StageError when there is none.
    """
    for port in itertools.islice(_own_ports(), SHARE):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StageError(f"ports {PORTS.start} to {PORTS.stop - 1}: should have a free one, found none")


@functools.cache
def _own_ports() -> Iterator[int]:
    """Return the ports of this process alone, over and over: given anew after all others.

    The kernel takes the lock from a process that ends: https://man7.org/linux/man-pages/man2/flock.2.html.
    """
    PORTS_FOLDER.mkdir(exist_ok=True)
    shares = range(PORTS.start, PORTS.stop, SHARE)
    for first in random.sample(shares, k=len(shares)):
        lock = (PORTS_FOLDER / str(first)).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        return itertools.cycle(range(first, first + SHARE))
    raise StageError(f"{PORTS_FOLDER}: {len(shares)} processes should not hold all ports at once")


def answers(port: int) -> bool:
    """Say whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM into the same orderly end as Ctrl-C."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back, so that an impatient second one leaves nothing running."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without Cynthus', GitHub's and Python's own variables."""
    foreign = ("CYNTHUS_", "GITHUB_", "INPUT_", "ACTIONS_", "RUNNER_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}
