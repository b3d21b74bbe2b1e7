"""What the agent makes of a lent machine: its boot's words, its registry, its GPUs, its network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cynthus.wire import Gang
from runner_images.agent.boot import FAULT_LIMIT, MARKS_LIMIT, boot_fault, boot_marks
from runner_images.agent.container_image import FIRST_TELL_S, PullProgress
from runner_images.agent.container_network import gang_network
from runner_images.agent.metadata import Metadata, NoMetadata, Value
from runner_images.agent.registry import google_login
from runner_images.agent.takeback import watch
from runner_images.agent.workload import CannotStart, check_driver, gang_variables
from tests.builders import some_facts
from tests.fake_control_plane import a_work
from tests.fake_metadata import MetadataServer
from tests.nvml import nvml_library

ROOT = Path(__file__).parents[2]


def test_marks_that_nobody_can_read_are_left_out(tmp_path: Path) -> None:
    lines = ["booted 2026-01-01T12:00:00Z", "BAD 2026-01-01T12:00:00Z", "late 2026-13-01T12:00:00Z"]
    lines += ["naive 2026-01-01T12:00:00.000", "", "x"] + ["more 2026-01-01T12:00:00Z"] * 100
    (tmp_path / "marks").write_text("\n".join(lines))
    marks = boot_marks(tmp_path)
    assert [mark.name for mark in marks[:2]] == ["booted", "more"]
    assert len(marks) < MARKS_LIMIT
    assert boot_marks(tmp_path / "absent") == ()


def test_a_fault_is_one_sentence_of_bounded_length(tmp_path: Path) -> None:
    assert boot_fault(tmp_path) == ""
    (tmp_path / "fault").write_text("GPU driver:\n no space\n" + "x" * 10_000)
    assert boot_fault(tmp_path).startswith("GPU driver: no space x")
    assert len(boot_fault(tmp_path)) == FAULT_LIMIT


REGISTRIES = {
    "europe-west4-docker.pkg.dev/p/r/i@sha256:0": True,
    "gcr.io/p/i@sha256:0": True,
    "eu.gcr.io/p/i@sha256:0": True,
    "ghcr.io/acme/i@sha256:0": False,
    "docker.pkg.dev.evil.example/i@sha256:0": False,
    "evil.example/gcr.io/i@sha256:0": False,
    "xgcr.io/i@sha256:0": False,
    "127.0.0.1:5000/i@sha256:0": False,
}


@pytest.mark.parametrize(("image", "googles"), REGISTRIES.items())
def test_only_googles_registries_are_shown_the_machines_token(image: str, *, googles: bool) -> None:
    with MetadataServer() as server:
        login = google_login(image, Metadata(server.url))
    assert login == (
        {"username": "oauth2accesstoken", "password": "ya29.of-this-test"} if googles else None
    )
    assert bool(server.asked) is googles


def test_a_metadata_server_that_says_no_is_told_by_what_was_asked() -> None:
    with MetadataServer() as server, pytest.raises(NoMetadata, match="404 for instance/absent"):
        Metadata(server.url).value("absent")


def test_a_long_pull_is_told_more_and_more_rarely() -> None:
    now = [0.0]
    progress = PullProgress(lambda: now[0])
    told = []
    for second in range(3600):
        now[0] = float(second)
        step = {
            "id": "layer",
            "status": "Downloading",
            "progressDetail": {"current": second * 10**6, "total": 3600 * 10**6},
        }
        told.append(progress.hear(step))
    sentences = [text for text in told if text]
    assert told.index(sentences[0]) == FIRST_TELL_S
    assert sentences[0] == "pulling the image: 5 of at least 3600 MB"
    assert len(sentences) == 10


def test_a_short_pull_tells_nothing_and_a_done_layer_counts_whole() -> None:
    now = [0.0]
    progress = PullProgress(lambda: now[0])
    detail = {"current": 10**6, "total": 50 * 10**6}
    assert progress.hear({"id": "a", "status": "Downloading", "progressDetail": detail}) is None
    assert progress.hear({"id": "a", "status": "Download complete"}) is None
    now[0] = FIRST_TELL_S
    assert progress.hear({"status": "Extracting"}) == "pulling the image: 50 of at least 50 MB"


def test_the_world_of_a_gang_counts_its_workers() -> None:
    gang = Gang(rank=1, nodes=3, port=29500)
    assert gang_variables(a_work(), "10.0.0.1") == {}
    assert gang_variables(a_work(gang=gang), "10.0.0.1") == {
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
        "NNODES": "3",
        "NODE_RANK": "1",
        "WORLD_SIZE": "3",
    }
    assert gang_variables(a_work(gang=gang, gpu_count=8), "10.0.0.1")["WORLD_SIZE"] == "24"


def test_all_agents_of_a_gang_name_one_network_and_no_other_gang_does() -> None:
    first = gang_network("plane", "rone", 1)
    assert first == gang_network("plane", "rone", 1)
    others = {gang_network(*key).name for key in (("p2", "rone", 1), ("plane", "rone", 2))}
    assert first.name not in others
    assert len(first.bridge) <= 15  # IFNAMSIZ: longer names are refused by the kernel


ACCESS = """
import json
from runner_images.agent.container_gpus import GpuMode, gpu_access
found = gpu_access(GpuMode.COS, ("GPU-b",), ["LD_LIBRARY_PATH=/image", "LD_LIBRARY_PATH=/user"])
print(json.dumps([found.options, found.variables]))
"""


def test_without_a_toolkit_a_container_gets_the_devices_of_its_gpus_only(tmp_path: Path) -> None:
    nvml_library(tmp_path)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    words = [sys.executable, "-c", ACCESS]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=True)
    options, variables = json.loads(done.stdout)
    assert "/dev/nvidia1:/dev/nvidia1:rw" in options["devices"]
    assert not any("nvidia0" in device for device in options["devices"])
    assert options["binds"] == [
        "/var/lib/nvidia/lib64:/usr/local/nvidia/lib64:ro",
        "/var/lib/nvidia/bin:/usr/local/nvidia/bin:ro",
    ]
    assert variables == {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/user"}


# ── what the owner says ─────────────────────────────────────────────────────────────────────────


class Impatient(Metadata):
    """A metadata server that answers at once where it was asked to wait."""

    def __init__(self, over: Calm, most: int) -> None:
        super().__init__("http://127.0.0.1:1")
        self.asked, self._over, self._most = 0, over, most

    def value(self, path: str) -> Value:  # noqa: ARG002 - it has one value
        self.asked += 1
        if self.asked > self._most:
            self._over.set()
        return Value(text="FALSE", etag="")

    def next_value(self, path: str, seen: Value, wait_s: int) -> Value:  # noqa: ARG002 - see above
        return self.value(path)


class Calm(threading.Event):
    """An end that comes after so many pauses, none of which takes time."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.left = pauses

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - no time passes
        self.left -= 1
        if self.left <= 0:
            self.set()
        return self.is_set()


def test_a_server_that_does_not_wait_is_not_asked_without_end() -> None:
    over = Calm(pauses=3)
    metadata = Impatient(over, most=100)
    before = set(threading.enumerate())
    watch(metadata, preempted=lambda: None, over=over)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert metadata.asked == 4  # the first question, then one a pause


@pytest.mark.parametrize(
    ("driver", "gpu_count", "starts"),
    [
        ("535.161.08", 1, False),
        ("570.26", 1, True),
        ("580.126.09", 1, True),
        (None, 1, True),  # it cannot say: the command will
        ("535.161.08", 0, True),  # nothing of the run touches the GPU
    ],
)
def test_an_image_that_the_driver_cannot_run_is_not_even_pulled(
    driver: str | None, gpu_count: int, *, starts: bool
) -> None:
    work = replace(a_work(), gpu_count=gpu_count, minimum_driver="570.26")
    facts = some_facts(driver=driver)
    if starts:
        check_driver(work, facts)
        return
    with pytest.raises(CannotStart, match=r"570\.26 or newer, this instance has 535") as refused:
        check_driver(work, facts)
    assert not refused.value.infrastructure
