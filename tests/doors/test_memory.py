"""What nobody has signed fills no memory: a real server process, looked at from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.light_stage import light_stage
from webhook_server.routes.github_events import MAX_BYTES, MAX_HELD_BYTES

MIB = 1 << 20
CHUNK = b"100000\r\n" + b"x" * MIB + b"\r\n"
SENDERS = 10  # more than may be held at once
HEAD = (
    b"POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"X-GitHub-Event: push\r\nX-GitHub-Delivery: 0123-4567\r\n"
    b"X-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.case("R12", "W12", "W13")
def test_bodies_that_nobody_signed_leave_the_server_small(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        assert stage.server.program is not None
        server = psutil.Process(stage.server.program.process.pid)
        before = server.memory_info().rss
        with peak_of(server) as peak, ThreadPoolExecutor(SENDERS) as pool:
            answers = list(pool.map(lambda _: send(stage.server.port), range(SENDERS)))
        assert set(answers) <= {b"", b"401", b"408", b"413", b"503"}
        # All that is held at once, and one whole body more while its parts become one.
        room = MAX_HELD_BYTES + MAX_BYTES + 64 * MIB
        assert max(peak) - before < room, [f"{rss / MIB:.0f}" for rss in (before, max(peak))]
        wait_until(lambda: stage.deliver() == 202)  # once it knows that all have hung up


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if holds():
            return
        pause.wait(0.1)
    pytest.fail("it did not become true within a minute")


def send(port: int) -> bytes:
    """Send 32 MiB, as far as they are taken; return the status, nothing for a closed door."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        try:
            connection.sendall(HEAD)
            for _ in range(32):
                connection.sendall(CHUNK)
            connection.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it has answered and closed
        try:
            line = connection.makefile("rb").readline()
        except OSError:
            return b""
    return line.split()[1] if line else b""


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Note how large the process is, until the block ends."""
    seen = [process.memory_info().rss]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
