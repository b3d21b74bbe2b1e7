"""Run the server's loops in threads until they are told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from webhook_server import metrics
from webhook_server.about import about
from webhook_server.bell import Bell
from webhook_server.metrics import METERS

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 300.0  # a loop with a topic of its own may sleep long; its step says how long
FIRST_PAUSE_S = 0.5  # after a step that raised; doubles up to the longest
LONGEST_PAUSE_S = 10.0  # what an outage of the database costs runs after its end, at most
STOP_S = 18.0  # of the 30 s that service managers grant: a request to GitHub may take 15 s


@dataclass(frozen=True)
class Loop:
    """One loop: `step` does all due work once and returns the seconds until its next look."""

    name: str
    step: Callable[[], float]
    topic: str  # of the bell; a ring brings the next look forward
    finish: Callable[[float], bool] = lambda _: True  # waits at most so long for what is under way


def run_loops(loops: Sequence[Loop], bell: Bell, stopping: threading.Event) -> bool:
    """Run every loop in its own thread until `stopping` is set.

    Returns after the steps under way have ended; False: one took longer than `STOP_S`.
    """
    threads = [
        threading.Thread(target=run_loop, args=(loop, bell, stopping), name=loop.name, daemon=True)
        for loop in loops
    ]
    for thread in threads:
        thread.start()
    stopping.wait()
    for loop in loops:
        bell.ring(loop.topic)  # wake those that wait, so that they see that it is over
    end_at = time.monotonic() + STOP_S
    done = [_ended(*pair, end_at) for pair in zip(loops, threads, strict=True)]
    return all(done)


def _ended(loop: Loop, thread: threading.Thread, end_at: float) -> bool:
    thread.join(max(0.0, end_at - time.monotonic()))
    done = not thread.is_alive() and loop.finish(max(0.0, end_at - time.monotonic()))
    if not done:
        log.error("loop did not stop in time name=%s", loop.name)
    return done


def run_loop(loop: Loop, bell: Bell, stopping: threading.Event) -> None:
    """Repeat the loop's step until `stopping` is set; a step that raises never ends it."""
    with about(loop=loop.name):
        _turn(loop, bell, stopping)


def _turn(loop: Loop, bell: Bell, stopping: threading.Event) -> None:
    failures = 0
    while not stopping.is_set():
        rings = bell.count(loop.topic)
        if stopping.is_set():  # its ring may be counted already
            return
        try:
            wait_s = min(loop.step(), LONGEST_WAIT_S)
            failures = 0
        except Exception:  # a loop never dies
            log.exception("loop failed name=%s", loop.name)
            METERS.add(metrics.LOOP_FAILURES, loop=loop.name)
            failures += 1
            # Not by the bell: a step that always raises must not be rung into a busy loop.
            stopping.wait(min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), LONGEST_PAUSE_S))
            continue
        if wait_s > 0:
            bell.wait(loop.topic, rings, wait_s)
