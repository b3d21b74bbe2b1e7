"""Whatever kills the runner, an event is handled once and every job gets its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.actions_feed import Event, Feed
from simulators.actions_ledger import JobEntry, Ledger, RunEntry
from simulators.actions_planner import plan
from tests.contract.actions_github import ROOT, FakeGitHub, fake_github, run_once, runner_command

WORKFLOW = ".github/workflows/ci.yml"
QUICK = "on: push\njobs: {job: {runs-on: x, steps: [{run: echo done}]}}"
SLOW = """
on: push
jobs:
  job:
    runs-on: x
    steps:
      - run: |
          echo "pid=$$"
          exec sleep 300
      - run: echo cleanup-$((1 + 1))
        if: always()
"""


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        yield server


class RunningSimulator:
    """The simulator as a program that goes on."""

    def __init__(self, github: FakeGitHub, state: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            runner_command(github, state, *options), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self._lines.append(line.rstrip("\n"))
                self._said.notify_all()

    def wait_for(self, text: str) -> str:
        """Wait for a line that begins so, and give it back."""

        def found() -> str | None:
            return next((line for line in self._lines if line.startswith(text)), None)

        with self._said:
            assert self._said.wait_for(found, timeout=60), f"{text!r} was never said: {self._lines}"
        return str(found())

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(github: FakeGitHub, state: Path, *options: str) -> Iterator[RunningSimulator]:
    simulator = RunningSimulator(github, state, *options)
    try:
        yield simulator
    finally:
        if simulator.process.poll() is None:
            simulator.end(signal.SIGTERM)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_job_cut_short_by_a_kill_is_reported_cancelled_and_its_processes_end(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push({WORKFLOW: SLOW})
    with running(github, tmp_path / "state") as simulator:
        pid = int(simulator.wait_for("[job] pid=").partition("=")[2])
        simulator.end(signal.SIGKILL)
    assert is_running(pid)
    ended = run_once(github, tmp_path / "state")
    assert ended.returncode == 1
    job = github.job("job")  # one registration only
    assert job.conclusion == "cancelled"
    assert f"pid={pid}" in job.log
    assert not is_running(pid)
    github.push({WORKFLOW: QUICK})
    assert run_once(github, tmp_path / "state").returncode == 0
    assert [one.conclusion for one in github.jobs.values()] == ["cancelled", "success"]


def test_an_event_that_was_handled_is_not_handled_again(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: QUICK})
    run_once(github, tmp_path / "state")
    assert run_once(github, tmp_path / "state").returncode == 0
    assert len(github.jobs) == 1


def test_an_event_planned_before_a_kill_runs_once(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: QUICK, ".github/workflows/other.yml": QUICK})
    ledger = Ledger(tmp_path / "state")
    event = Event(1, "push", github.events[0]["payload"])
    first, _ = plan(Feed(github.url), ledger, event)
    ledger.plan(first)  # and here the program was killed
    assert run_once(github, tmp_path / "state").returncode == 0
    paths = [job.registration["workflow_path"] for job in github.jobs.values()]
    assert sorted(paths) == [WORKFLOW, ".github/workflows/other.yml"]


def a_run_entry(github: FakeGitHub, job: JobEntry) -> RunEntry:
    payload = github.events[0]["payload"]
    return RunEntry(
        key="00000001-ci.yml",
        seq=1,
        event="push",
        payload=payload,
        owner="ada",
        repo="demo",
        sha=payload["after"],
        ref="refs/heads/main",
        workflow_path=WORKFLOW,
        status="running",
        jobs={"job": job},
    )


def test_a_job_whose_registration_was_not_answered_is_found_again_and_cancelled(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push({WORKFLOW: QUICK})
    ledger = Ledger(tmp_path / "state")
    ledger.save(a_run_entry(github, JobEntry()))
    ledger.advance(1)
    run_once(github, tmp_path / "state")
    job = github.job("job")
    assert job.registration["run_key"] == "00000001-ci.yml"
    assert job.conclusion == "cancelled"


def test_a_result_on_disk_is_reported_as_it_was_after_a_kill(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push({WORKFLOW: QUICK})
    run_once(github, tmp_path / "state")
    report = github.job("job").last
    (job_id,) = github.jobs
    ledger = Ledger(tmp_path / "state")
    ledger.save(a_run_entry(github, JobEntry(job_id=job_id, conclusion="success", report=report)))
    run_once(github, tmp_path / "state")
    assert github.job("job").reports[-2:] == [report, report]


def test_a_github_that_answers_502_for_a_while_gets_every_report(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push({WORKFLOW: QUICK})
    github.refusals = 3
    assert run_once(github, tmp_path / "state").returncode == 0
    assert [one["status"] for one in github.job("job").reports] == ["in_progress", "completed"]


def test_a_stopped_simulator_cancels_its_jobs_and_lets_them_clean_up(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push({WORKFLOW: SLOW})
    with running(github, tmp_path / "state") as simulator:
        simulator.wait_for("[job] pid=")
        simulator.end(signal.SIGTERM)
        assert simulator.process.returncode == 0
    job = github.job("job")
    assert job.conclusion == "cancelled"
    assert "cleanup-2" in job.log
    assert "The operation was canceled." in [one["message"] for one in job.last["annotations"]]


def ask(url: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
        text = answer.read().decode()
    return json.loads(text) if answer.headers.get_content_type() == "application/json" else text


def test_the_control_page_shows_cancels_and_pauses(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: SLOW})
    with running(github, tmp_path / "state", "--port", "0") as simulator:
        url = simulator.wait_for("actions simulator: ").split()[-1]
        simulator.wait_for("[job] pid=")
        (job_id,) = github.jobs
        assert "pid=" in str(ask(f"{url}/_sim/jobs/{job_id}/log"))
        assert ask(f"{url}/_sim/faults", {"paused": True}) == {"paused": True, "no_id_token": False}
        assert ask(f"{url}/_sim/jobs/{job_id}/cancel", {}) == {"ok": True}
        github.wait_for_job("job", "completed")
        assert github.job("job").conclusion == "cancelled"
        simulator.wait_for("00000001-ci.yml: cancelled")
        (shown,) = ask(f"{url}/_sim/jobs")  # type: ignore[misc]
        assert shown["result"] == "cancelled"


def test_events_arrive_while_the_simulator_waits_for_them(
    github: FakeGitHub, tmp_path: Path
) -> None:
    with running(github, tmp_path / "state", "--port", "0") as simulator:
        simulator.wait_for("actions simulator: ")
        github.push({WORKFLOW: QUICK})
        github.wait_for_job("job", "completed")
    assert github.job("job").conclusion == "success"


def test_a_simulator_whose_github_is_away_says_so_and_waits(tmp_path: Path) -> None:
    with fake_github(tmp_path / "github") as gone:
        pass
    ended = run_once(gone, tmp_path / "state")
    assert ended.returncode == 3
    assert "--github: should be a GitHub simulator that answers" in ended.stdout
    assert "Traceback" not in ended.stderr
    with running(gone, tmp_path / "state") as simulator:
        simulator.wait_for("the event feed does not answer, trying again")


def test_standing_in_a_folder_with_relative_state_works(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: QUICK})
    done = subprocess.run(
        runner_command(github, Path("here"), "--once"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0
