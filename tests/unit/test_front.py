"""The pages are built when they are first asked for: once, and no two at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from webhook_server.routes.answers import Door, Receive, Scope, Send
from webhook_server.routes.front import Later


async def door(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody asks")


def test_two_servers_of_one_process_do_not_build_at_the_same_time() -> None:
    both_build = threading.Event()
    building = threading.Semaphore(1)

    def build() -> Door:
        if not building.acquire(blocking=False):
            both_build.set()
            return door
        both_build.wait(0.2)  # as long as the other has to show that it would not wait
        building.release()
        return door

    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda later: later.get(), [Later(build) for _ in "ab"]))
    assert built == [door, door]
    assert not both_build.is_set()


def test_it_is_built_once() -> None:
    times: list[None] = []

    def build() -> Door:
        times.append(None)
        return door

    later = Later(build)
    assert later.get() is later.get()
    assert len(times) == 1
