"""A full disk, a signal in the middle of work, a damaged row: the server as its operator has it."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cynthus.errors import CynthusError
from tests.light_stage import LightStage, light_stage
from tests.small_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture

STOP_LIMIT_S = 30  # what service managers grant between SIGTERM and SIGKILL


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────


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


def test_r9_a_run_that_fills_the_servers_disk_ends_and_gives_the_room_back(
    tmp_path: Path, small_disk: Path
) -> None:
    with light_stage(tmp_path, state=small_disk / "state", logs=tmp_path / "log") as stage:
        view = stage.end(stage.submit("head -c 100000000 /dev/zero > everything"))
        assert (view.outcome, view.cause) == ("failed", "exit")
        assert stage.end(stage.submit("echo next")).outcome == "succeeded"


# ── SIGTERM in the middle of work ───────────────────────────────────────────────────────────────


def ended_within(stage: LightStage, limit_s: float) -> float:
    program = stage.server.program
    assert program is not None
    begun = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    program.process.wait(limit_s)
    assert program.process.returncode == 0, program.tail()
    return time.monotonic() - begun


def test_r11_a_server_that_is_told_to_stop_leaves_its_runs_running(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        run_id = stage.submit("echo up; sleep 6; echo still here")
        stage.wait_for_log(run_id, "up")
        assert ended_within(stage, STOP_LIMIT_S) < STOP_LIMIT_S
        stage.server.start()
        view = stage.end(run_id)
        assert (view.outcome, len(view.attempts)) == ("succeeded", 1), view.reason
        assert stage.log(run_id) == "up\nstill here\n"


@contextlib.contextmanager
def a_host_that_never_answers() -> Iterator[str]:
    """Take connections, and say nothing on any of them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


PUSH = (
    b'{"ref":"refs/heads/main","after":"' + b"a" * 40 + b'","deleted":false,"forced":false,'
    b'"commits":[],"repository":{"id":5,"full_name":"acme/digits","default_branch":"main",'
    b'"owner":{"id":6,"login":"acme"},"pushed_at":1},"installation":{"id":7},'
    b'"sender":{"id":8,"login":"mira","type":"User"}}'
)


def test_r11_no_silence_of_others_keeps_a_server_from_stopping(tmp_path: Path) -> None:
    """GitHub hangs, a follower listens, an upload stands still: it ends in its 30 s all the same."""
    with a_host_that_never_answers() as url, light_stage(
        tmp_path, CYNTHUS_GITHUB_API_URL=url
    ) as stage:
        assert stage.deliver("push", PUSH) == 202
        run_id = stage.submit("echo up; sleep 60")
        stage.wait_for_log(run_id, "up")
        held = [socket.create_connection(("127.0.0.1", stage.server.port)) for _ in range(3)]
        host = f"Host: 127.0.0.1:{stage.server.port}\r\n".encode()
        held[0].sendall(b"GET /healthz HTTP/1.1\r\n")
        held[1].sendall(b"POST /webhooks/github HTTP/1.1\r\n" + host + b"Content-Length: 9\r\n\r\n")
        held[2].sendall(b"POST /api/v1/runs HTTP/1.1\r\n" + host + b"Content-Length: 9\r\n\r\n{")
        follower = threading.Thread(target=follow, args=(stage, run_id), daemon=True)
        follower.start()
        assert ended_within(stage, STOP_LIMIT_S + 20) < STOP_LIMIT_S
        stage.server.settings = {**stage.server.settings, "CYNTHUS_GITHUB_API_URL": "http://127.0.0.1:9/"}
        stage.server.start()
        stage.client.cancel(run_id)
        assert stage.end(run_id).outcome == "cancelled"
        for connection in held:
            connection.close()


def follow(stage: LightStage, run_id: str) -> None:
    with contextlib.suppress(CynthusError, OSError):
        for _ in stage.client.follow(run_id):
            pass


# ── rows that nobody can read ───────────────────────────────────────────────────────────────────


def test_r14_a_damaged_run_is_parked_and_every_door_stays_open(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        damaged = [stage.submit("sleep 600") for _ in range(2)]
        for run_id in damaged:
            stage.client.get(run_id)
        stage.server.program.stop()  # type: ignore[union-attr] # it was started
        with sqlite3.connect(tmp_path / "state" / "cynthus.db") as database:
            docs = ('{"id": 5}', '{"version": 99, "state": "levitating"}')
            for run_id, doc in zip(damaged, docs, strict=True):
                database.execute(
                    "UPDATE runs SET doc = ?, look_again_at = '2020-01-01 00:00:00.000000'"
                    " WHERE id = ?",
                    (doc, run_id),
                )
        stage.server.start()
        good = stage.submit("echo fine")
        assert stage.end(good).outcome == "succeeded"
        operator = {"Authorization": f"Bearer {stage.server.api_token}"}
        for run_id in damaged:
            for path in ("", "/events", "/log", "/outputs", "/stream"):
                answer = stage.ask("GET", f"/api/v1/runs/{run_id}{path}", headers=operator)
                assert answer.status < 500, (path, answer.body)
        listed = {row["id"]: row["state"] for row in stage.client.list(limit=9)}
        assert set(listed) == {good, *damaged}
        assert "Traceback" not in stage.server_log.partition("run parked")[2]


# ── many at once ────────────────────────────────────────────────────────────────────────────────


def test_w20_a_burst_of_deliveries_is_kept_and_answered_in_time(tmp_path: Path) -> None:
    def one(number: int) -> tuple[int, float]:
        begun = time.monotonic()
        status = stage.deliver("ping" if number % 2 else "watch")
        return status, time.monotonic() - begun

    with light_stage(tmp_path) as stage:
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(one, range(400)))
    assert {status for status, _ in answers} == {202}
    assert sorted(taken for _, taken in answers)[int(len(answers) * 0.99)] < 1
