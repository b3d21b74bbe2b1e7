"""Servers to measure: ours as its users start it, the bare ones, each in a folder of its own."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from cynthus.client import Client
from cynthus.errors import UserError
from demo.processes import Program, Programs, answers, clean_environment, free_port, wait_until
from demo.server import Server

MIB = 1 << 20
LOOK_S = 0.005  # how exactly a start is timed
START_LIMIT_S = 60.0


@contextlib.contextmanager
def ours(folder: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Give a server that is not started yet; `folder`: its state, when something is seeded."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-") as own:
        programs = Programs(Path(own) / "log")
        try:
            yield Server(programs, folder or Path(own) / "state", settings=settings or {})
        finally:
            programs.stop()


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A bare program that answers."""

    port: int
    program: Program


@contextlib.contextmanager
def bare(kind: str) -> Iterator[Bare]:
    """Give one of the bare programs, answering."""
    with tempfile.TemporaryDirectory(prefix="cynthus-bench-bare-") as own:
        programs = Programs(Path(own) / "log")
        port = free_port()
        words = [sys.executable, "-m", "bench.bare", kind, str(port), own]
        try:
            program = programs.start("bare", words, environment=clean_environment())
            wait_until(lambda: answers(port), f"the bare {kind}", program)
            yield Bare(port=port, program=program)
        finally:
            programs.stop()


def settled(server: Server) -> psutil.Process:
    """Start a server, wait until nothing of its start is left to do, and return its process."""
    process = psutil.Process(server.start().process.pid)
    # The pages are built in a thread after the first answer: ask for a run, then it is done.
    with contextlib.suppress(UserError):
        Client(server.url, server.api_token).get("none")
    threading.Event().wait(0.5)
    return process


def seconds_until_answer(url: str) -> float:
    """Return the seconds until anything answers 200 there."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < START_LIMIT_S:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=START_LIMIT_S),
        ):
            return time.perf_counter() - begin
        time.sleep(LOOK_S)
    raise RuntimeError(f"{url}: should answer within {START_LIMIT_S:.0f} s, found nothing")


def cpu_s(process: psutil.Process) -> float:
    """Return the seconds of processor time that a process has had."""
    times = process.cpu_times()
    return float(times.user + times.system)
