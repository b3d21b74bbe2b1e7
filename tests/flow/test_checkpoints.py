"""A killed or preempted attempt's next one goes on from what was saved: real agents, real doors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import docker
import pytest

from cynthus.spec import Checkpoint
from cynthus.wire import EventKind
from cynthus.wire_data import CheckpointWork
from runner_images.agent.processes import marked
from runner_images.agent.workload import INSTANCE_MARK
from tests.agent_process import LIMIT_S, PLANE, ROOT, an_agent
from tests.docker_fixture import engine_socket, image
from tests.doors.conftest import Site, open_site
from tests.fake_control_plane import ControlPlane, a_work
from tests.fake_metadata import MetadataServer
from tests.stopwatch import Stopwatch
from webhook_server.auth.tokens import enrol_secret
from webhook_server.settings_reader import read
from webhook_server.stores.checkpoint_store import CheckpointStore

__all__ = ["engine_socket", "image"]  # fixtures

#: Saves at steps 20 and 40; its first attempt stays at step 25 until it is ended.
TRAINING = """
import os, pathlib, time
last = pathlib.Path(os.environ["CYNTHUS_CHECKPOINTS"]) / "deep" / "last"
step = int(last.read_text()) if last.exists() else 0
print("starts at", step, flush=True)
while step < 40:
    step += 1
    print(f"::metric name=loss,step={step}::{1 / step}", flush=True)
    if step % 20 == 0:
        last.parent.mkdir(exist_ok=True)
        last.with_suffix(".tmp").write_text(str(step))
        last.with_suffix(".tmp").replace(last)
        time.sleep(0.1)
    while step == 25 and os.environ["CYNTHUS_ATTEMPT"] == "1":
        time.sleep(0.05)
print("ends at", step, flush=True)
"""
SPEC = "version: 1\nname: resumes\nrun: x\ncheckpoint: {path: kept/here}\n"
EVERY = timedelta(seconds=1)  # below what a spec may ask for: the test waits for it


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = read({"CYNTHUS_STATE_DIR": str(tmp_path / "state"), "CYNTHUS_PORT": "0"})
    with open_site(settings) as opened:
        yield opened


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    folder = tmp_path / "bundle"
    (folder / "workspace").mkdir(parents=True)
    (folder / "bin").mkdir()
    found = {"bin": str(folder / "bin"), "workspace": "workspace"}
    (folder / "bundle.json").write_text(json.dumps(found))
    return folder.as_uri()


def ordered(site: Site, run_id: str, image_id: str) -> str:
    """Order the next attempt of the run; return its instance's name."""
    name = site.order(run_id)

    def change(run):  # type: ignore[no-untyped-def]
        kept = Checkpoint("kept/here", EVERY)
        spec = replace(run.spec, run=("python3", "-c", TRAINING), checkpoint=kept)
        return replace(run, spec=spec, image=image_id)

    site.save(run_id, change)
    return name


@contextmanager
def agent_of(site: Site, name: str, folder: Path, engine: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    (folder / "secret").write_text(enrol_secret(site.parts.server_key, name))
    agent = subprocess.Popen(
        [
            *(sys.executable, "-m", "runner_images.agent", "run", "--server", site.url),
            *("--instance", name, "--state-dir", str(folder)),
            *("--secret-file", str(folder / "secret")),
            *("--engine", engine, "--control-plane", PLANE),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield agent
    finally:
        agent.kill()
        agent.wait()


def wait_until(condition, limit_s: float = LIMIT_S) -> None:  # type: ignore[no-untyped-def]
    watch = Stopwatch()
    while not condition():
        assert watch.wall_s < limit_s
        time.sleep(0.05)


def told(site: Site, run_id: str, kind: EventKind) -> list[str]:
    events = site.parts.events.after(run_id, 0, limit=500, kinds=(kind,))
    return [str(event.body.get("text", event.body.get("step"))) for event in events]


def kill_processes(name: str) -> None:
    for pid in marked(INSTANCE_MARK, name, session=-1):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_containers(name: str) -> None:
    client = docker.from_env()
    try:
        for found in client.containers.list(all=True, filters={"name": name}):
            found.remove(force=True)
    finally:
        client.close()


def assert_goes_on_after_a_kill(site: Site, folder: Path, image_id: str, engine: str) -> None:
    """Kill the agent as a power cut would, and let the next attempt show where it begins."""
    store = CheckpointStore(site.parts.database)
    run_id = site.a_run(repository_id=41, spec_text=SPEC)
    first = ordered(site, run_id, image_id)
    try:
        with agent_of(site, first, folder / "first", engine) as agent:
            wait_until(lambda: store.of(run_id, 0) and "25" in told(site, run_id, EventKind.METRIC))
            agent.send_signal(signal.SIGKILL)
            agent.wait(LIMIT_S)
    finally:
        (kill_processes if engine == "process" else kill_containers)(first)
    site.parts.instances.close(first, site.parts.now())

    second = ordered(site, run_id, image_id)
    with agent_of(site, second, folder / "second", engine) as agent:
        assert agent.wait(LIMIT_S) == 0

    log = "".join(told(site, run_id, EventKind.LOG))
    assert log == "starts at 0\nstarts at 20\nends at 40\n"
    assert "resumed from step 20; 5 steps lost (checkpoint 1 of attempt 1)" in told(
        site, run_id, EventKind.NOTICE
    )
    newest = store.of(run_id, 0)[0]
    assert (newest.attempt, newest.number, newest.step) == (2, 2, 40)  # saved at the end
    assert not (folder / "second" / "checkpoint").exists()


@pytest.mark.case("R1")
def test_after_kill_9_of_the_agent_the_next_attempt_goes_on(
    site: Site, tmp_path: Path, bundle: str
) -> None:
    assert_goes_on_after_a_kill(site, tmp_path, bundle, "process")


@pytest.mark.docker
def test_after_kill_9_of_the_agent_the_next_container_goes_on(
    site: Site, tmp_path: Path, image: str
) -> None:
    assert_goes_on_after_a_kill(site, tmp_path, image, "docker")


@pytest.mark.case("A23")
def test_on_a_preemption_notice_what_changed_is_saved_in_time(bundle: str, tmp_path: Path) -> None:
    command = (
        "echo 1 > ckpt/last; trap 'echo 2 > ckpt/last; exit 0' TERM;"
        " echo ready; while :; do sleep 0.05; done"
    )
    work = a_work(
        image=bundle,
        command=("bash", "-c", command),
        checkpoint=CheckpointWork(path="ckpt", every_s=300.0, limit_bytes=1 << 20),
        stop_grace_s=600.0,
    )
    name = f"cynthus-rtaken{os.getpid()}-1"
    with MetadataServer() as metadata:
        identity = ("--identity", "google", "--audience", "a", "--metadata-url", metadata.url)
        with (
            ControlPlane(work, identity="identity-for-a-full", heartbeat_s=600.0) as plane,
            an_agent(plane, tmp_path / "s", engine="process", name=name, cloud=identity),
        ):
            plane.wait(lambda: "ready" in plane.log)
            metadata.wait_asked("preempted?wait")
            noticed = Stopwatch()
            metadata.set("preempted", "TRUE")
            plane.wait(lambda: plane.beats[-1]["state"] == "done")
            assert noticed.wall_s < 25.0
    [*_, newest] = plane.checkpoints
    assert [file["path"] for file in newest["files"]] == ["last"]
    assert plane.blobs[newest["files"][0]["sha256"]] == b"2\n"
