"""A door that is never empty delays what it has taken by its head start, and no longer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.light_stage import LightStage, light_stage
from webhook_server.routes.github_events import BODY_LIMIT_S

LIMIT_S = 120.0  # of anything: the machine may be busy with other tests
# A delivery whose body never comes; the server says "100 Continue" once it stands at the door.
HEAD = (
    b"POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"X-GitHub-Event: push\r\nX-GitHub-Delivery: never-whole\r\nExpect: 100-continue\r\n"
    b"X-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\nContent-Length: 9\r\n\r\n"
)


def test_deliveries_are_handled_while_the_door_stays_busy(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage, busy_door(stage):
        assert stage.deliver(guid="taken-while-busy") == 202
        wait_for_line(stage, "delivery ended state=ignored guid=taken-while-busy")


@contextmanager
def busy_door(stage: LightStage) -> Iterator[None]:
    """Let somebody stand at the door all the time: two in turn, each until it is cut off."""
    over, stands = threading.Event(), threading.Event()
    at_door: set[socket.socket] = set()

    def stand(after_s: float) -> None:
        over.wait(after_s)
        while not over.is_set():
            with socket.create_connection(("127.0.0.1", stage.server.port), LIMIT_S) as visitor:
                visitor.sendall(HEAD)
                answers = visitor.makefile("rb")
                assert answers.readline().split()[1] == b"100"
                at_door.add(visitor)
                stands.set()
                if not over.is_set():
                    answers.read()  # until the server hangs up, or we do
                at_door.remove(visitor)

    with ThreadPoolExecutor(2) as pool:
        visitors = [pool.submit(stand, after_s) for after_s in (0, BODY_LIMIT_S / 2)]
        try:
            assert stands.wait(LIMIT_S)
            yield
        finally:
            over.set()
            for visitor in tuple(at_door):
                with suppress(OSError):  # it was cut off meanwhile
                    visitor.shutdown(socket.SHUT_RDWR)
    for standing in visitors:
        standing.result()


def wait_for_line(stage: LightStage, words: str) -> None:
    """Wait until the server's log says so."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.1)):
        if words in stage.server_log:
            return
        pause.wait(0.1)
    raise AssertionError(f"the log should say {words!r}, found:\n{stage.server_log}")
