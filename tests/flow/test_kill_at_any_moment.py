"""kill -9 of the server, of the agent, of both, at every stage of a run: it still ends once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from cynthus.errors import CynthusError
from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, Stage
from tests.flow.test_push_to_release import containers, light_repository, run_to_its_end

STATES = ["building", "queued", "provisioning", "running", "collecting", "releasing"]
# Before an instance is ordered there is no agent, and the server is all that can be killed.
WITHOUT_AGENT = {"building", "queued"}
KILLS = [
    (state, victim)
    for state in STATES
    for victim in ("server", "agent", "both")
    if victim == "server" or state not in WITHOUT_AGENT
]
RUN = "echo ::phase::work\nsleep 1\nmkdir -p outputs\necho model > outputs/model.txt"


def agents(stage: Stage) -> list[psutil.Process]:
    """The agents of this stage's server, which live in sessions of their own."""
    mark = f"--server {stage.server.url}"
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "runner_images.agent" in words and mark in words:
            found.append(process)
    return found


def reaches(stage: Stage, run_id: str, state: str) -> None:
    """Wait until the run's feed has told of `state`."""
    for event in stage.client.follow(run_id):
        if event.kind == "state" and event.body.get("state") in (state, "finished"):
            return


def kill_agents(stage: Stage) -> None:
    for process in agents(stage):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def kill_server(stage: Stage) -> None:
    assert stage.server.program is not None
    stage.server.program.kill()


@pytest.mark.case("R1")
@pytest.mark.slow
@pytest.mark.parametrize(("state", "victim"), KILLS)
def test_a_killed_program_costs_time_and_never_the_run(
    stage: Stage, tmp_path: Path, state: str, victim: str
) -> None:
    name = f"kill-{state}-{victim}"
    stage.create_repository(name)
    commit = stage.push(name, light_repository(tmp_path, name, RUN))
    run_id = stage.wait_for_run(commit)
    reaches(stage, run_id, state)

    if victim in ("agent", "both"):
        kill_agents(stage)
    if victim in ("server", "both"):
        kill_server(stage)
        stage.server.start()

    view = run_to_its_end(stage, commit)
    assert view.outcome == "succeeded", view.reason
    check = wait_for_check(stage, name, commit)
    assert (check["status"], check["conclusion"]) == ("completed", "success")
    token = stage.installation_token()
    checks = stage.github.get(f"repos/{OWNER}/{name}/commits/{commit}/check-runs", token)
    ours = [c for c in checks["check_runs"] if c["app"]["id"] == stage.app_id]
    assert len(ours) == 1
    releases = stage.github.get(f"repos/{OWNER}/{name}/releases", token)
    assert len(releases) == 1
    assert published_release(stage, name) is not None
    wait_for_quiet(stage)
    assert containers(stage, view.id) == []
    assert agents(stage) == []


def wait_for_quiet(stage: Stage) -> None:
    """An agent whose run is over has been told so; give its process the moment to leave."""
    tick = threading.Event()
    for _ in range(600):  # a minute: its process ends in a moment, on a busy machine later
        if not agents(stage):
            return
        tick.wait(0.1)
    with contextlib.suppress(CynthusError):
        stage.client.list(limit=1)
