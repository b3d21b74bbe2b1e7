"""Servers that are killed, paused and told to stop while runs are under way: the others go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cynthus.errors import CynthusError
from tests.chaos.oracles import judge
from tests.chaos.stage import Stage, Wave, standing, wait_for

WAVES = 10  # a pause meets a pass before its write in most of them
STOP_LIMIT_S = 30  # what service managers grant between SIGTERM and SIGKILL


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("two")) as stage:
        yield stage


def asked_meanwhile(stage: Stage, number: int) -> tuple[threading.Thread, list[Wave]]:
    """Ask for runs in a thread, through whatever happens; returns it with where they will be."""
    made: list[Wave] = []
    thread = threading.Thread(target=lambda: made.append(stage.wave(number)))
    thread.start()
    return thread, made


def test_a_killed_replica_costs_time_and_no_run(stage: Stage) -> None:
    one, other = stage.replicas
    known = len(stage.rows("SELECT id FROM runs"))
    thread, made = asked_meanwhile(stage, 5)
    wait_for("some are accepted", lambda: len(stage.rows("SELECT id FROM runs")) >= known + 2)

    one.kill()  # while runs are accepted and ordered
    stage.leases_run_out()
    thread.join()
    [wave] = made
    stage.wait_until_running(wave)
    one.start()
    other.kill()  # while all of them run
    stage.leases_run_out()
    stage.crew.may_end.set()
    wait_for("one has ended", lambda: "finished" in stage.states(wave))
    other.start()
    one.kill()  # while they are collected, deleted, shown
    stage.leases_run_out()
    stage.wait_for_the_end(wave)
    one.start()

    judge(stage, wave)


def test_a_paused_replicas_writes_are_refused_once_others_had_its_work(stage: Stage) -> None:
    one, other = stage.replicas
    thread, made = asked_meanwhile(stage, 4)
    wait_for("one is ordered", lambda: stage.cloud.sim("GET", "/instances"))
    one.pause()  # with claims in its hands, and requests under way
    stage.leases_run_out()
    thread.join()
    [wave] = made
    stage.wait_until_running(wave)
    one.go_on()
    stage.let_go(wave)
    judge(stage, wave)

    refused = other.refused_writes()
    for _ in range(WAVES):
        wave = stage.wave(4)
        stage.wait_until_running(wave)
        one.pause()  # so that what is claimed from now on is the other's
        stage.leases_run_out()
        other.postgres.slow(delay_s=0.05)  # a pass takes seconds: it is met in the middle
        stage.crew.may_end.set()
        wait_for("the other has claims", lambda: _held(stage))
        other.pause()
        one.go_on()
        stage.leases_run_out()
        wait_for("one has gone on", lambda w=wave: _has_moved(stage, w))
        other.postgres.heal()
        other.go_on()
        stage.wait_for_the_end(wave)
        judge(stage, wave)
        if other.refused_writes() > refused:
            return
    raise AssertionError(f"no write of a paused server was refused in {WAVES} waves")


def _held(stage: Stage) -> list[Any]:
    return stage.rows("SELECT id FROM runs WHERE lock_until > now()")


def _has_moved(stage: Stage, wave: Wave) -> bool:
    return set(stage.states(wave)) != {"running"}


def test_replicas_that_are_told_to_stop_let_go_of_their_work_and_the_next_goes_on(
    stage: Stage,
) -> None:
    one, other = stage.replicas
    wave = stage.wave(4)
    stage.wait_until_running(wave)
    followed = threading.Thread(target=follow, args=(stage, wave.run_ids[0]))
    followed.start()

    begun, programs = len(one.log), [one.process, other.process]  # they share their log
    stage.crew.may_end.set()
    wait_for("they work", lambda: _has_moved(stage, wave))
    taken_s = one.terminate(), other.terminate()
    claimed = stage.claimed()
    one.start()
    stage.wait_for_the_end(wave)

    followed.join()
    assert claimed == []  # or whoever comes next waits for a lease to run out
    assert max(taken_s) < STOP_LIMIT_S
    assert [ended.returncode for ended in programs] == [0, 0], one.log[begun:]
    assert "Traceback" not in one.log[begun:]
    other.start()
    assert other.ready() == (200, "ready\n")
    judge(stage, wave)


def follow(stage: Stage, run_id: str) -> None:
    """Read a run's feed to its end; a stream that is closed is opened again where it was."""
    after, ended = 0, False
    while not ended:
        with contextlib.suppress(CynthusError, OSError):
            for event in stage.client.follow(run_id, after):
                after = event.seq
                ended = event.kind == "state" and event.body["state"] == "finished"
