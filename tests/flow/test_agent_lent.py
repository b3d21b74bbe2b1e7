"""The agent on a lent machine: who it is, what its boot left, and how it ends in time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import LIMIT_S, an_agent
from tests.fake_control_plane import ControlPlane, a_work
from tests.fake_metadata import MetadataServer
from tests.stopwatch import Stopwatch

NAME = f"cynthus-rlent{os.getpid()}-1"  # agents find what is theirs on the whole machine
AUDIENCE = "https://cynthus.example"
TOKEN = f"identity-for-{AUDIENCE}-full"


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    folder = tmp_path / "bundle"
    (folder / "workspace").mkdir(parents=True)
    (folder / "bin").mkdir()
    found = {"bin": str(folder / "bin"), "workspace": "workspace"}
    (folder / "bundle.json").write_text(json.dumps(found))
    return folder.as_uri()


def lent(metadata: MetadataServer, *more: str) -> tuple[str, ...]:
    found = ("--identity", "google", "--audience", AUDIENCE, "--metadata-url", metadata.url)
    return (*found, *more)


def a_plane(bundle: str, command: Any, **changes: Any) -> ControlPlane:
    """A plane whose agent beats every ten minutes: what comes before was told for its own sake."""
    work = a_work(image=bundle, command=command, **changes)
    return ControlPlane(work, identity=TOKEN, heartbeat_s=600.0)


def done(plane: ControlPlane) -> bool:
    return bool(plane.beats) and plane.beats[-1]["state"] == "done"


def test_it_enrols_by_the_machines_identity_and_tells_what_the_boot_marked(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "marks").write_text(
        "booted 2026-01-01T12:00:00.250Z\nnonsense\ndriver_ready 2026-01-01T12:00:40Z\n"
    )
    options = lent(metadata, "--boot-dir", str(boot))
    with (
        a_plane(bundle, "echo hello") as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=options) as agent,
    ):
        plane.wait(lambda: done(plane))
        assert agent.wait(LIMIT_S) == 0
    enrolment = plane.enrolments[0]
    assert enrolment["secret"] == ""
    assert enrolment["facts"]["address"] == "10.128.0.7"
    marks = {mark["name"]: mark["at"] for mark in enrolment["facts"]["marks"]}
    assert list(marks) == ["booted", "driver_ready", "agent_started"]
    assert marks["booted"] == "2026-01-01T12:00:00.250000Z"
    assert [mark["name"] for mark in plane.events("mark")] == ["first_output"]


def test_a_machine_without_an_identity_says_what_it_lacks(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    with (
        ControlPlane(a_work(image=bundle), identity="another machine's") as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)) as agent,
    ):
        assert agent.wait(LIMIT_S) == 1
    assert (tmp_path / "s" / "agent.log").read_text() == "enrolment: not the proof\n"


@pytest.mark.parametrize("late", [False, True], ids=["at once", "heard after a fault"])
def test_a_preemption_is_told_within_a_second_and_ends_the_command_in_time(
    bundle: str, metadata: MetadataServer, tmp_path: Path, *, late: bool
) -> None:
    command = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with (
        a_plane(bundle, ("bash", "-c", command), stop_grace_s=600.0) as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)),
    ):
        plane.wait(lambda: "ready" in plane.log)
        metadata.wait_asked("preempted?wait")
        if late:  # the question that waits is broken off, as when the host is busy with its end
            metadata.broken = True
            metadata.set("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
            metadata.broken = False
        noticed = Stopwatch()
        metadata.set("preempted", "TRUE")
        plane.wait(lambda: plane.beats[-1]["preempted"])
        told_s = noticed.s
        plane.wait(lambda: done(plane))
        took_s = noticed.s
    assert told_s < 1  # the promise; on an idle machine this takes 0.02 s
    assert took_s < 5  # it saves at once: on an idle machine this takes 0.1 s
    assert "saved" in plane.log
    assert plane.exit["stopped"]
    assert plane.exit["infrastructure"]
    assert "preempted" in plane.exit["error"]
    if late:
        assert plane.beats[-1]["maintenance"] == "TERMINATE_ON_HOST_MAINTENANCE"


@pytest.mark.slow
def test_a_command_that_ignores_the_preemption_is_over_before_the_plug_is_pulled(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    command = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    work = {"stop_grace_s": 600.0, "outputs": ("outputs",)}
    with (
        a_plane(bundle, ("bash", "-c", command), **work) as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)),
    ):
        plane.wait(lambda: "ready" in plane.log)
        noticed = Stopwatch()
        metadata.set("preempted", "TRUE")
        plane.wait(lambda: done(plane))
        wall_s, took_s = noticed.wall_s, noticed.s
    assert wall_s > 16
    assert took_s < 25
    assert plane.exit["signal"] == 9


def test_maintenance_is_told_and_the_command_goes_on(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    command = "echo ready; until [ -e go ]; do sleep 0.05; done; echo end"
    with (
        a_plane(bundle, command) as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)),
    ):
        plane.wait(lambda: "ready" in plane.log)
        metadata.set("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
        plane.wait(lambda: plane.beats[-1]["maintenance"] == "TERMINATE_ON_HOST_MAINTENANCE")
        metadata.set("maintenance-event", "NONE")
        plane.wait(lambda: plane.beats[-1]["maintenance"] is None)
        (tmp_path / "s" / "workspace" / "go").touch()
        plane.wait(lambda: done(plane))
    assert plane.exit["code"] == 0


def test_a_machine_that_is_shut_down_reports_what_became_of_its_run(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    command = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with (
        a_plane(bundle, ("bash", "-c", command)) as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)) as agent,
    ):
        plane.wait(lambda: "ready" in plane.log)
        agent.send_signal(signal.SIGTERM)  # as systemd does when the power button is pressed
        plane.wait(lambda: done(plane))
        assert agent.wait(LIMIT_S) == 0
    assert not plane.beats[-1]["preempted"]
    assert plane.exit["infrastructure"]
    assert plane.exit["error"] == "the machine is being shut down"


def test_the_power_button_of_a_preempted_machine_is_a_preemption(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    with (
        a_plane(bundle, ("bash", "-c", "echo ready; exec sleep 60")) as plane,
        an_agent(plane, tmp_path / "s", engine="process", name=NAME, cloud=lent(metadata)) as agent,
    ):
        plane.wait(lambda: "ready" in plane.log)
        metadata.values["preempted"] = "TRUE"  # whoever waits for the change is not told
        agent.send_signal(signal.SIGTERM)
        plane.wait(lambda: done(plane))
    assert plane.beats[-1]["preempted"]


# ── warm ─────────────────────────────────────────────────────────────────────────────────────────

LOOK = """ls -A . outputs; cat outputs/* 2>/dev/null || true
echo secret=${KEY:-none}; echo x > outputs/y"""


def test_a_warm_machine_takes_the_next_work_and_shows_it_nothing_of_the_last(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    first = {"keep_warm_s": 60.0, "secrets": {"KEY": "the-first-runs-secret"}}
    second = a_work(image=bundle, command=LOOK, attempt=1, run_id="rother")
    with a_plane(bundle, "echo mine > outputs/mine; echo $KEY > kept", **first) as plane:
        plane.heartbeat_s = 0.2
        plane.next_answers = [204, 204, second, 410]
        state = tmp_path / "s"
        with an_agent(plane, state, engine="process", name=NAME, cloud=lent(metadata)) as agent:
            plane.wait(lambda: bool(plane.past) and done(plane))
            assert agent.wait(LIMIT_S) == 0
    assert plane.past[0][-1]["state"] == "done"
    assert plane.log == ".:\ncheckpoints\noutputs\n\noutputs:\nsecret=none\n"
    assert [message["instance"] for message in plane.nexts] == [NAME] * 3
    assert {message["nonce"] for message in plane.nexts} == {plane.enrolments[0]["nonce"]}
    assert [beat["seq"] for beat in plane.beats] == list(range(1, len(plane.beats) + 1))


def test_a_warm_machine_that_is_taken_back_asks_no_more(
    bundle: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    with a_plane(bundle, "true", keep_warm_s=600.0) as plane:
        plane.heartbeat_s = 0.2
        plane.next_answers = [204] * 1000
        state = tmp_path / "s"
        with an_agent(plane, state, engine="process", name=NAME, cloud=lent(metadata)) as agent:
            plane.wait(lambda: len(plane.nexts) > 1)
            metadata.set("preempted", "TRUE")
            assert agent.wait(LIMIT_S) == 0


# ── a boot that failed ───────────────────────────────────────────────────────────────────────────


def test_what_the_boot_says_against_the_machine_is_reported_by_its_agent(
    metadata: MetadataServer, tmp_path: Path
) -> None:
    fault = "GPU driver: could not be installed (code 1): no such version"
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "fault").write_text(fault + "\n")
    options = lent(metadata, "--boot-dir", str(boot))
    with (
        a_plane("sha256:" + "0" * 64, "true") as plane,
        an_agent(plane, tmp_path / "s", name=NAME, cloud=options) as agent,
    ):
        plane.wait(lambda: done(plane))
        assert agent.wait(LIMIT_S) == 0
    assert plane.exit["error"] == fault
    assert plane.exit["infrastructure"]
    assert plane.exit["code"] is None
