"""Without an engine the real agent runs plain processes, says so, and leaves none behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runner_images.agent.processes import marked
from runner_images.agent.workload import INSTANCE_MARK
from tests.agent_process import INSTANCE, LIMIT_S, an_agent, finished
from tests.fake_control_plane import SECRET, TOKEN, ControlPlane, a_work


@pytest.fixture
def image(tmp_path: Path) -> str:
    bundle = tmp_path / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bin").mkdir()
    (bundle / "workspace" / "train.py").write_text("print('trained')\n")
    (bundle / "bundle.json").write_text(
        json.dumps({"bin": str(bundle / "bin"), "workspace": "workspace"})
    )
    return bundle.as_uri()


def left_running() -> list[int]:
    return marked(INSTANCE_MARK, INSTANCE, session=-1)


def ran(image: str, folder: Path, command: Any, **changes: Any) -> ControlPlane:
    with ControlPlane(a_work(image=image, command=command, **changes)) as plane:
        return finished(plane, folder / "state", engine="process")


def test_a_command_runs_in_a_copy_of_the_workspace(image: str, tmp_path: Path) -> None:
    command = (
        "python3 train.py; echo $EPOCHS; echo x > $CYNTHUS_OUTPUTS/x; echo '# S' > $CYNTHUS_SUMMARY"
    )
    plane = ran(image, tmp_path, command, env={"EPOCHS": "3"}, outputs=("outputs",))
    assert plane.exit["code"] == 0
    assert plane.log == "trained\n3\n"
    assert plane.blobs == {"outputs/x": b"x\n"}
    assert plane.events("summary") == [{"text": "# S\n"}]
    assert plane.events("notice") == [
        {"text": "no Docker engine: ran as a plain process without isolation"}
    ]
    assert sorted(p.name for p in (tmp_path / "bundle" / "workspace").iterdir()) == ["train.py"]


def test_the_command_gets_nothing_of_the_agents_environment(image: str, tmp_path: Path) -> None:
    command = (
        "env; cat /proc/$PPID/environ /proc/$PPID/cmdline | tr '\\0' '\\n'; ls -l /proc/self/fd"
    )
    plane = ran(image, tmp_path, command)
    assert SECRET not in plane.log
    assert TOKEN not in plane.log
    assert "PYTEST_CURRENT_TEST" not in plane.log.split("PATH=")[0]
    assert "agent.lock" not in plane.log
    assert not (tmp_path / "state" / "secret").exists()


EXITS = {
    "its own code": ("exit 3", 3, None),
    "a signal": ("kill -9 $$", 137, 9),
    "a failing part of a pipe": ("false | true", 1, None),
    "arguments": (("sh", "-c", "exit 7"), 7, None),
}


@pytest.mark.parametrize(("command", "code", "number"), EXITS.values(), ids=EXITS.keys())
def test_the_exit_is_told_as_it_was(
    image: str, tmp_path: Path, command: Any, code: int, number: int | None
) -> None:
    plane = ran(image, tmp_path, command)
    assert (plane.exit["code"], plane.exit["signal"]) == (code, number)


def test_nothing_is_left_running_when_done_is_told(image: str, tmp_path: Path) -> None:
    command = "setsid sleep 300 & (sleep 300 &) ; nohup sleep 300 >/dev/null 2>&1 & echo started"
    plane = ran(image, tmp_path, command)
    assert plane.log == "started\n"
    assert plane.exit["code"] == 0
    assert left_running() == []


def test_more_memory_than_allowed_ends_the_run_as_out_of_memory(image: str, tmp_path: Path) -> None:
    # Many small processes: no limit of one process catches them, their sum does.
    eat = "python3 -c 'import time; x = bytearray(60 << 20); time.sleep(30)' &"
    plane = ran(image, tmp_path, f"{eat} {eat} {eat} wait", memory_bytes=100 << 20)
    assert plane.exit["out_of_memory"]
    assert plane.exit["code"] != 0


@pytest.mark.case("A12")
def test_odd_outputs_are_left_out_with_reasons(image: str, tmp_path: Path) -> None:
    command = """cd outputs; mkfifo pipe; ln -s /etc/passwd link; ln -s /etc folder; echo x > x
    python3 -c "import socket; socket.socket(1).bind('sock')"; cd ..; ln -s /etc out"""
    plane = ran(image, tmp_path, command, outputs=("outputs", "out/passwd"))
    assert plane.blobs == {"outputs/x": b"x\n"}
    left_out = {path: o["left_out"] for path, o in plane.outputs.items() if o["left_out"]}
    assert left_out == {
        "outputs/pipe": "a named pipe",
        "outputs/link": "a symbolic link",
        "outputs/folder": "a symbolic link",
        "outputs/sock": "a socket",
        "out": "a symbolic link",
    }


SAVES = """python3 -u -c '
import signal, sys, time
signal.signal(15, lambda *_: (print("saved"), sys.exit(5)))
print("ready")
time.sleep(60)'; echo never"""
STUBBORN = "trap '' TERM; echo ready; while true; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("command", "code", "word"), [(SAVES, 5, "saved"), (STUBBORN, 137, "ready")]
)
def test_a_stop_is_obeyed_within_its_grace(
    image: str, tmp_path: Path, command: Any, code: int, word: str
) -> None:
    work = a_work(image=image, command=command, stop_grace_s=1.0)
    state = tmp_path / "state"
    with (
        ControlPlane(work, heartbeat_s=0.3) as plane,
        an_agent(plane, state, engine="process") as agent,
    ):
        plane.wait(lambda: "ready" in plane.log)
        plane.stop = "cancelled"
        plane.wait(lambda: plane.beats[-1]["state"] == "done")
        agent.wait(LIMIT_S)
    assert plane.exit["stopped"]
    assert plane.exit["code"] in (code, 143)
    assert word in plane.log
    assert "never" not in plane.log
    assert left_running() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_agent_ends_its_processes(
    image: str, tmp_path: Path, number: signal.Signals
) -> None:
    work = a_work(image=image, command=STUBBORN)
    state = tmp_path / "state"
    with ControlPlane(work) as plane, an_agent(plane, state, engine="process") as agent:
        plane.wait(lambda: "ready" in plane.log)
        os.kill(agent.pid, number)
        agent.wait(LIMIT_S)
    assert left_running() == []


@pytest.mark.parametrize("status", [401, 410])
def test_an_agent_whose_attempt_is_over_ends_everything(
    image: str, tmp_path: Path, status: int
) -> None:
    work = a_work(image=image, command=STUBBORN, stop_grace_s=60.0)
    state = tmp_path / "state"
    with (
        ControlPlane(work, heartbeat_s=0.2) as plane,
        an_agent(plane, state, engine="process") as agent,
    ):
        plane.wait(lambda: "ready" in plane.log)
        plane.status = status
        assert agent.wait(LIMIT_S) == 1
    assert left_running() == []


def test_an_enrolment_with_the_wrong_secret_ends_the_agent(image: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with ControlPlane(a_work(image=image)) as plane:
        plane.enrolments.append({"nonce": "somebody else's"})
        with an_agent(plane, state, engine="process") as agent:
            assert agent.wait(LIMIT_S) == 1
    assert "taken by another agent" in (state / "agent.log").read_text()


def test_a_bundle_that_is_not_there_is_told(tmp_path: Path) -> None:
    plane = ran((tmp_path / "absent").as_uri(), tmp_path, "true")
    assert plane.exit["code"] is None
    assert "absent" in plane.exit["error"]
    assert not plane.exit["infrastructure"]


def test_the_deadline_that_an_answer_names_counts_instead_of_the_work_s(
    image: str, tmp_path: Path
) -> None:
    # A busy machine may take its time until the first answer is there; the command outlasts it.
    longer = a_work(image=image, command="sleep 5; echo done", deadline_s=4.0, stop_grace_s=0.2)
    with ControlPlane(longer, heartbeat_s=0.2, deadline_s=60.0) as plane:
        finished(plane, tmp_path / "longer", engine="process")
    assert (plane.exit["code"], plane.log) == (0, "done\n")
