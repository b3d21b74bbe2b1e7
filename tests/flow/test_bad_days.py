"""A full disk, a signal in the middle of work, a damaged row: the server as its operator has it."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cynthus.errors import CynthusError
from tests.light_stage import LightStage, light_stage
from tests.small_disk import fill, small_disk
from tests.stopwatch import Stopwatch

__all__ = ["small_disk"]  # a fixture

STOP_LIMIT_S = 30  # what service managers grant between SIGTERM and SIGKILL
LIMIT_S = 120  # of anything: the machine may be busy with other tests


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("W22", "R9")
def test_r9_a_full_disk_refuses_and_recovers_without_repair(
    tmp_path: Path, small_disk: Path
) -> None:
    with light_stage(tmp_path, state=small_disk / "state", logs=small_disk / "log") as stage:
        assert stage.deliver(guid="before-the-flood") == 202
        filler = fill(small_disk)
        answers = [stage.deliver(body=b'{"x":"' + b"y" * 20_000 + b'"}') for _ in range(20)]
        assert answers[-1] == 503
        assert set(answers) <= {202, 503}  # what was answered 202 found room in the write-ahead log
        with pytest.raises(CynthusError, match="Try again"):
            stage.submit("echo " + "x" * 20_000)
        assert stage.ask("GET", "/healthz").status == 200
        filler.unlink()
        assert stage.deliver(body=b'{"x":"' + b"y" * 20_000 + b'"}') == 202
        run_id = stage.submit("echo recovered")
        assert stage.end(run_id).outcome == "succeeded"
        stage.server.program.stop()  # type: ignore[union-attr] # it was started
        with sqlite3.connect(small_disk / "state" / "cynthus.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            kept = database.execute("SELECT count(*) FROM deliveries").fetchone()[0]
        assert kept == answers.count(202) + 2


@pytest.mark.case("R9")
def test_r9_a_run_that_fills_the_servers_disk_ends_and_gives_the_room_back(
    tmp_path: Path, small_disk: Path
) -> None:
    with light_stage(tmp_path, state=small_disk / "state", logs=tmp_path / "log") as stage:
        view = stage.end(stage.submit("head -c 100000000 /dev/zero > everything"))
        assert (view.outcome, view.cause) == ("failed", "exit")
        assert stage.end(stage.submit("echo next")).outcome == "succeeded"


# ── SIGTERM in the middle of work ───────────────────────────────────────────────────────────────


def seconds_to_end(stage: LightStage) -> float:
    program = stage.server.program
    assert program is not None
    begun = Stopwatch()
    program.process.send_signal(signal.SIGTERM)
    program.process.wait(LIMIT_S)
    assert program.process.returncode == 0, program.tail()
    return begun.s


@pytest.mark.case("R11")
def test_r11_a_server_that_is_told_to_stop_leaves_its_runs_running(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        run_id = stage.submit("echo up; sleep 6; echo still here")
        stage.wait_for_log(run_id, "up")
        assert seconds_to_end(stage) < STOP_LIMIT_S
        stage.server.start()
        view = stage.end(run_id)
        assert (view.outcome, len(view.attempts)) == ("succeeded", 1), view.reason
        assert stage.log(run_id) == "up\nstill here\n"


@contextlib.contextmanager
def a_host_that_never_answers() -> Iterator[str]:
    """Take connections, and say nothing on any of them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@contextlib.contextmanager
def half_sent(port: int, *requests: bytes) -> Iterator[None]:
    """Hold connections on which a request began and never ends."""
    with contextlib.ExitStack() as stack:
        for request in requests:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(request)
        yield


PUSH = (
    b'{"ref":"refs/heads/main","after":"' + b"a" * 40 + b'","deleted":false,"forced":false,'
    b'"commits":[],"repository":{"id":5,"full_name":"acme/digits","default_branch":"main",'
    b'"owner":{"id":6,"login":"acme"},"pushed_at":1},"installation":{"id":7},'
    b'"sender":{"id":8,"login":"mira","type":"User"}}'
)


@pytest.mark.case("R11")
@pytest.mark.slow
def test_r11_no_silence_of_others_keeps_a_server_from_stopping(tmp_path: Path) -> None:
    with (
        a_host_that_never_answers() as url,
        light_stage(tmp_path, CYNTHUS_GITHUB_API_URL=url) as stage,
    ):
        assert stage.deliver("push", PUSH) == 202
        run_id = stage.submit("echo up; sleep 60")
        stage.wait_for_log(run_id, "up")
        threading.Thread(target=follow, args=(stage, run_id), daemon=True).start()
        post = f"POST %s HTTP/1.1\r\nHost: 127.0.0.1:{stage.server.port}\r\nContent-Length: 9\r\n"
        bodies = [(post % path).encode() + b"\r\n{" for path in ("/api/v1/runs", "/agent/v1/enrol")]
        with half_sent(stage.server.port, b"GET /healthz HTTP/1.1\r\n", *bodies):
            assert seconds_to_end(stage) < STOP_LIMIT_S
        nobody = {"CYNTHUS_GITHUB_API_URL": "http://127.0.0.1:9/"}
        stage.server.settings = {**stage.server.settings, **nobody}
        stage.server.start()
        stage.client.cancel(run_id)
        assert stage.end(run_id).outcome == "cancelled"


def follow(stage: LightStage, run_id: str) -> None:
    with contextlib.suppress(CynthusError, OSError):
        for _ in stage.client.follow(run_id):
            pass


# ── rows that nobody can read ───────────────────────────────────────────────────────────────────


DAMAGED = ('{"id": 5}', '{"version": 99, "state": "levitating"}', '"x"', "[]")
WAITING = """UPDATE runs SET doc = ?, state = 'queued', outcome = NULL, finished_at = NULL,
    look_again_at = '2020-01-01 00:00:00.000000' WHERE id = ?"""


@pytest.mark.case("R14")
def test_r14_a_damaged_run_is_parked_and_every_door_stays_open(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        damaged = [stage.submit("true") for _ in DAMAGED]
        for run_id in damaged:
            stage.end(run_id)
        stage.server.program.stop()  # type: ignore[union-attr] # it was started
        with sqlite3.connect(tmp_path / "state" / "cynthus.db") as database:
            database.executemany(WAITING, zip(DAMAGED, damaged, strict=True))
        stage.server.start()
        good = stage.submit("echo fine")
        assert stage.end(good).outcome == "succeeded"
        listed = {row["id"]: (row["state"], row["outcome"]) for row in stage.client.list(limit=9)}
        assert listed.pop(good) == ("finished", "succeeded")
        assert set(listed.values()) == {("finished", "infrastructure")}
        operator = {"Authorization": f"Bearer {stage.server.api_token}"}
        for path in ("", "/events", "/log", "/outputs", "/stream"):
            answer = stage.ask("GET", f"/api/v1/runs/{damaged[0]}{path}", headers=operator)
            assert answer.status in (200, 410), (path, answer.body)
        assert stage.ask("GET", f"/runs/{damaged[0]}", headers=operator).status == 410
        assert "Traceback" not in stage.server_log


# ── many at once ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("W20")
def test_w20_a_burst_of_deliveries_is_kept_and_answered_in_time(tmp_path: Path) -> None:
    def one(number: int) -> tuple[int, float]:
        begun = Stopwatch()
        status = stage.deliver("ping" if number % 2 else "watch")
        return status, begun.s

    with light_stage(tmp_path) as stage, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(one, range(400)))
    assert {status for status, _ in answers} == {202}
    assert sorted(taken for _, taken in answers)[int(len(answers) * 0.99)] < 1
