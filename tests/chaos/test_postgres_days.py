"""Bad days of PostgreSQL itself: it is restarted, crashes, is full, ends sessions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.chaos.oracles import judge
from tests.chaos.stage import TEST_SESSION, Replica, Stage, standing, wait_for

READY = (200, "ready\n")
AWAY = (503, "not ready: the database takes no writes\n")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("postgres"), roles=("api", "worker", "worker")) as stage:
        yield stage


def door(stage: Stage) -> Replica:
    """Return the replica that has doors; the others only work."""
    return stage.replicas[0]


def test_a_restart_and_a_crash_of_the_database_are_told_and_survived(stage: Stage) -> None:
    wave = stage.wave(3)
    stage.wait_until_running(wave)
    for mode in ("fast", "immediate"):
        stage.postgres.stop(mode)
        try:
            wait_for("it is told", lambda: door(stage).ready() == AWAY)
        finally:
            stage.postgres.start()
        wait_for("it is over", lambda: door(stage).ready() == READY)
    stage.let_go(wave)

    judge(stage, wave)


def test_a_database_without_a_free_connection_is_waited_for(stage: Stage) -> None:
    wave = stage.wave(2)
    stage.wait_until_running(wave)
    with contextlib.ExitStack() as others:
        held = others.enter_context(session(stage))

        def took_all() -> bool:
            """Take what is free and what the servers had; say whether they are without."""
            end_theirs(held)
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    others.enter_context(session(stage))
            return door(stage).ready() == AWAY

        wait_for("it is told", took_all)
    wait_for("it is over", lambda: door(stage).ready() == READY)
    stage.let_go(wave)

    judge(stage, wave)


@pytest.mark.long
def test_sessions_that_are_ended_again_and_again_cost_no_run(stage: Stage) -> None:
    over = threading.Event()

    def end_them() -> None:
        with session(stage) as held:
            while not over.wait(1):  # a busy machine needs some of it to get anything done
                end_theirs(held)

    ending = threading.Thread(target=end_them)
    ending.start()
    try:
        wave = stage.wave(3)
        stage.wait_until_running(wave)
    finally:
        over.set()
        ending.join()
    stage.let_go(wave)

    judge(stage, wave)


@contextlib.contextmanager
def session(stage: Stage) -> Iterator[psycopg.Connection[object]]:
    """Hold a session of the test's own."""
    address = stage.postgres.url.replace("+psycopg", "")
    with contextlib.closing(psycopg.connect(address, application_name=TEST_SESSION)) as held:
        held.autocommit = True
        yield held


def end_theirs(held: psycopg.Connection[object]) -> None:
    """End every session of the servers, in the middle of whatever it does."""
    held.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name <> %s",
        [TEST_SESSION],
    )
