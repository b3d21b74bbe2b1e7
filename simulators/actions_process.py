"""Run one program of a step: its lines, its time limit, its end when the job is cancelled."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACKING = "RUNNER_TRACKING_ID"  # the runner's own way to know the processes of a job
_LOOK_S = 0.05
# The runner's own patience: SIGINT, after 7.5 s SIGTERM, after 2.5 s SIGKILL.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-cancellation
_AFTER_INTERRUPT_S = 7.5
_AFTER_TERMINATE_S = 2.5
_STREAM_S = 5.0  # a background process may hold the pipe open; the runner waits no longer
_LINE_BYTES = 1 << 20  # a longer line is cut, so that no step can fill the memory


class Cancel:
    """A wish to stop, which its parent's wish includes."""

    def __init__(self, parent: Cancel | None = None) -> None:
        self._parent = parent
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or (self._parent is not None and self._parent.is_set())

    def wait(self, seconds: float) -> None:
        """Wait for a wish made here (not by the parent), at most so long."""
        self._event.wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, where, and until when."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    deadline: float | None  # by time.monotonic()
    cancel: Cancel


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, or what made us end it."""

    code: int
    why: str = ""  # "" | "timeout" | "cancelled"


def run_program(program: Program, on_line: Callable[[str], None]) -> Ended:
    """Run to the end, handing over every line of output. Raises OSError when it cannot start."""
    process = subprocess.Popen(
        list(program.argv),
        cwd=program.folder,
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(process, on_line), daemon=True)
    reader.start()
    why = _watch(process, program)
    reader.join(_STREAM_S)
    return Ended(process.returncode if process.returncode >= 0 else 128 - process.returncode, why)


def _read(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout as pipe:
        while line := pipe.readline(_LINE_BYTES):
            on_line(line.decode(errors="replace").rstrip("\r\n"))


def _watch(process: subprocess.Popen[bytes], program: Program) -> str:
    while True:
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            why = _reason_to_end(program)
        else:
            return ""
        if why:
            _end(process)
            return why


def _reason_to_end(program: Program) -> str:
    if program.cancel.is_set():
        return "cancelled"
    late = program.deadline is not None and time.monotonic() > program.deadline
    return "timeout" if late else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    for patience, stronger in ((_AFTER_INTERRUPT_S, signal.SIGTERM), (_AFTER_TERMINATE_S, None)):
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            if stronger is not None:
                process.send_signal(stronger)
        else:
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_orphans(tracking_id: str) -> int:
    """Kill what a job left running, known by its tracking id, and say how many there were."""
    wanted = f"{TRACKING}={tracking_id}".encode()
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed
