"""Run other programs: the Action's only door to processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from action.workflow import Console

TAIL_LINES = 60  # enough to find the cause in pip's or BuildKit's last words
LONGEST_LINE = 2000  # a progress bar without line ends shall not fill the log


@dataclass(frozen=True)
class Answer:
    """How a program ended and what it printed."""

    code: int
    out: str
    err: str = ""


def capture(
    words: Sequence[str],
    *,
    timeout_s: float = 60,
    given: str = "",
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """Run a program quietly; one that is missing or too slow ends like one that failed.

    `given` is its standard input, `folder` where it runs; `environ` comes on top of ours, which is
    how a secret reaches it without standing in the list of processes.
    """
    try:
        done = subprocess.run(  # noqa: PLW1510 - the exit code is an answer, not an error
            words,
            capture_output=True,
            timeout=timeout_s,
            input=given.encode(),
            cwd=folder,
            env=None if environ is None else {**os.environ, **environ},
        )
    except FileNotFoundError as error:
        return Answer(127, "", f"{error.filename or words[0]}: not found")
    except OSError as error:
        return Answer(126, "", f"{words[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"{words[0]}: no answer within {timeout_s:g} s")
    return Answer(done.returncode, _text(done.stdout), _text(done.stderr))


def stream(
    words: Sequence[str],
    console: Console,
    *,
    boring: re.Pattern[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """Run a program and quote its output line by line but for `boring` lines; return the last.

    `environ` comes on top of ours. The program gets a process group of its own, so that an
    interrupted build leaves nothing behind.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=None if environ is None else {**os.environ, **environ},
        )
    except OSError as error:
        return Answer(127, f"{words[0]}: {error.strerror}")
    with process:
        try:
            for line in _lines(process.stdout or ()):
                tail.append(line)
                if boring is None or not boring.fullmatch(line):
                    console.quote(line)
        except BaseException:
            _end(process)
            raise
    return Answer(process.returncode, "\n".join(tail))


def _lines(pipe: Iterable[bytes]) -> Iterable[str]:
    for raw in pipe:
        line = _text(raw).rstrip("\r\n").rpartition("\r")[2]
        yield line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=5)  # docker and pip end at once on SIGTERM
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
