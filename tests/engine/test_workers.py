"""The threads of the server: they live through faults, wake at a ring, and stop in time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.builders import a_key, an_exit
from tests.engine.world import RUN, World
from tests.stopwatch import Stopwatch
from webhook_server.bell import Bell
from webhook_server.reconcile import Busy
from webhook_server.runs.model import State
from webhook_server.workers import Loop, run_loops


def run_until(loops: list[Loop], bell: Bell, done: threading.Event) -> bool:
    stopping = threading.Event()
    answer: list[bool] = []
    runner = threading.Thread(target=lambda: answer.append(run_loops(loops, bell, stopping)))
    runner.start()
    assert done.wait(60)
    stopping.set()
    runner.join(60)
    return answer == [True]


def test_a_loop_that_raises_is_tried_again() -> None:
    done = threading.Event()
    tries: list[int] = []

    def step() -> float:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("a fault")
        done.set()
        return 60

    assert run_until([Loop("test", step, "topic")], Bell(), done)
    assert len(tries) >= 2


def test_a_ring_wakes_a_loop_that_would_wait_long() -> None:
    bell, first, second = Bell(), threading.Event(), threading.Event()

    def step() -> float:
        (second if first.is_set() else first).set()
        return 60

    def ring() -> None:
        first.wait(60)
        bell.ring("topic")

    ringer = threading.Thread(target=ring)
    ringer.start()
    assert run_until([Loop("test", step, "topic")], bell, second)
    ringer.join()


def test_what_is_under_way_is_finished_before_the_server_ends() -> None:
    begun, finished = threading.Event(), threading.Event()

    def step() -> float:
        begun.set()
        return 60

    def finish(_: float) -> bool:
        finished.set()
        return True

    assert run_until([Loop("test", step, "topic", finish)], Bell(), begun)
    assert finished.is_set()


def test_a_run_lives_through_real_threads_without_waiting_for_a_timer(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path}/cynthus.db")
    pool = ThreadPoolExecutor(4)
    reconciler = replace(world.reconciler, pool=pool, busy=Busy(4))
    loop = Loop("reconcile", reconciler.step, "runs", reconciler.drain)
    stopping = threading.Event()
    runner = threading.Thread(target=run_loops, args=([loop], world.bell, stopping))
    runner.start()
    began = Stopwatch()
    try:
        world.submit(key=a_key(repository_id=0))
        world.bell.ring("runs")
        wait_for(world, lambda: world.state() is State.PROVISIONING)
        name = world.enrol()
        world.bell.ring("runs")
        wait_for(world, lambda: world.state() is State.RUNNING)
        world.finish_work(name, an_exit(0))
        world.bell.ring("runs")
        wait_for(world, lambda: world.state() is State.FINISHED)
        assert began.s < 4  # less than one idle wait of 5 s
    finally:
        stopping.set()
        world.bell.ring("runs")
        runner.join(60)
        pool.shutdown()
        world.db.close()
    assert not runner.is_alive()


def wait_for(world: World, is_so: Callable[[], bool]) -> None:
    """Wait for news of the run until it is as wanted."""
    for _ in range(600):
        seen = world.bell.count(f"events/{RUN}")
        if is_so():
            return
        world.bell.wait(f"events/{RUN}", seen, 0.1)
    raise AssertionError(f"the run stays {world.state()}")
