"""The real agent runs real containers and tells a real server about them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from demo.processes import wait_until
from runner_images.agent.metadata_guard import ADDRESS
from tests.agent_process import INSTANCE, LIMIT_S, an_agent, finished
from tests.docker_fixture import engine_socket, image
from tests.fake_control_plane import SECRET, TOKEN, ControlPlane, a_work
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.docker
__all__ = ["engine_socket", "image"]  # fixtures


@pytest.fixture
def client(engine_socket: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    yield client
    for found in client.containers(all=True, filters={"label": f"cynthus.instance={INSTANCE}"}):
        client.remove_container(found["Id"], force=True)
    client.close()


def our_containers(client: docker.APIClient) -> list[Any]:
    return client.containers(all=True, filters={"label": f"cynthus.instance={INSTANCE}"})


def ran(image: str, folder: Path, command: Any, **changes: Any) -> ControlPlane:
    """Run a command to its end and return what the server heard."""
    with ControlPlane(a_work(image=image, command=command, **changes)) as plane:
        return finished(plane, folder)


def test_a_command_is_run_and_reported(
    image: str, client: docker.APIClient, tmp_path: Path
) -> None:
    command = """echo out; echo err >&2; echo '::metric name=loss,step=1::0.5'
    echo '# Sum' > $CYNTHUS_SUMMARY"""
    plane = ran(image, tmp_path, command, env={"EPOCHS": "3"})
    assert plane.exit == {
        "code": 0,
        "signal": None,
        "out_of_memory": False,
        "stopped": False,
        "error": None,
        "infrastructure": False,
    }
    assert plane.log == "out\nerr\n"
    assert plane.events("metric") == [{"name": "loss", "step": 1, "value": 0.5}]
    assert plane.events("summary") == [{"text": "# Sum\n"}]
    assert [beat["seq"] for beat in plane.beats] == list(range(1, len(plane.beats) + 1))
    assert not our_containers(client)
    assert not (tmp_path / "container").exists()


EXITS = {
    "its own code": ("exit 3", 3, None),
    "a failing part of a pipe": ("false | true", 1, None),
    "an unset program": ("no-such-program", 127, None),
    "a signal": ("kill -9 $$", 137, 9),
    "arguments without a shell": (("bash", "-c", "exit 7"), 7, None),
}


@pytest.mark.parametrize(("command", "code", "signal"), EXITS.values(), ids=EXITS.keys())
def test_the_exit_is_told_as_it_was(
    image: str, tmp_path: Path, command: Any, code: int, signal: int | None
) -> None:
    plane = ran(image, tmp_path, command)
    assert (plane.exit["code"], plane.exit["signal"]) == (code, signal)


def test_a_program_that_does_not_exist_is_told_by_name(image: str, tmp_path: Path) -> None:
    plane = ran(image, tmp_path, ("no-such-program",))
    assert plane.exit["code"] == 127
    assert "no-such-program" in plane.log


def test_an_absent_image_is_told_with_its_name(engine_socket: str, tmp_path: Path) -> None:
    plane = ran("sha256:" + "0" * 64, tmp_path, "true")
    assert plane.exit["code"] is None
    assert "sha256:000" in plane.exit["error"]


EAT = "python3 -c 'x = bytearray(400 << 20)'"


@pytest.mark.parametrize(
    "command", [("python3", "-c", "x = bytearray(400 << 20)"), f"{EAT} || exit 3"]
)
def test_a_death_by_memory_is_told_also_when_only_a_child_died(
    image: str, tmp_path: Path, command: Any
) -> None:
    plane = ran(image, tmp_path, command, memory_bytes=128 << 20)
    assert plane.exit["out_of_memory"]
    assert plane.exit["code"] in (137, 3)


def test_more_than_the_machine_has_is_refused_before_it_starts(image: str, tmp_path: Path) -> None:
    plane = ran(image, tmp_path, "true", memory_bytes=1 << 50)
    assert plane.exit["infrastructure"]
    assert plane.exit["error"].startswith("resources/memory")


@pytest.mark.case("A19")
def test_the_container_is_trusted_with_nothing(
    image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    command = """
    ls /var/run/docker.sock 2>&1 || true
    cat /proc/self/status; id -u
    cat /proc/*/environ | tr '\\0' '\\n'
    echo limits $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null)
    """
    plane = ran(image, tmp_path, command, secrets={"HF_TOKEN": "s3cret-value-of-hf"})
    assert "cannot access '/var/run/docker.sock'" in plane.log
    assert "CapEff:\t0000000000000000" in plane.log
    assert "CapBnd:\t0000000000000000" in plane.log
    assert "NoNewPrivs:\t1" in plane.log
    assert "\n1000\n" in plane.log
    assert "limits 256" in plane.log
    assert "HF_TOKEN=***" in plane.log
    for secret in (SECRET, TOKEN, "s3cret-value-of-hf"):
        assert secret not in plane.log


CONNECT = """
import socket
for address in ("169.254.169.254", "169.254.170.2", "metadata.google.internal"):
    try:
        socket.create_connection((address, 80), timeout=3)
        print(address, "reached")
    except OSError as error:
        print(address, "unreachable", error.errno)
"""


@pytest.fixture
def metadata_server(tmp_path: Path) -> Iterator[None]:
    """A machine at the metadata address: a network namespace behind a link of its own."""
    if os.geteuid() != 0:
        pytest.skip("a metadata server of our own needs root for its network namespace")
    space, link = f"cyn-meta-{os.getpid()}", f"cyn{os.getpid()}m"  # of 15 characters at most
    lines = f"""
    ip netns add {space}
    ip link add {link}0 type veth peer name {link}1 netns {space}
    ip address add 198.51.100.1/24 dev {link}0
    ip link set {link}0 up
    ip -n {space} address add 198.51.100.2/24 dev {link}1
    ip -n {space} address add {ADDRESS}/32 dev {link}1
    ip -n {space} link set {link}1 up
    ip -n {space} route add default via 198.51.100.1
    ip route add {ADDRESS}/32 via 198.51.100.2
    """
    serve = "import socket; s = socket.create_server(('%s', 80))\nwhile True: s.accept()"
    server = None
    # There is one way to this address on a machine: who else tests here waits.
    turn = (Path(tempfile.gettempdir()) / f"cynthus-metadata-{os.geteuid()}").open("w")
    fcntl.flock(turn, fcntl.LOCK_EX)
    try:
        for line in lines.strip().splitlines():
            subprocess.run(line.split(), check=True, capture_output=True)
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{space}", "/usr/bin/python3", "-c", serve % ADDRESS],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield
    finally:
        if server is not None:
            server.kill()
            server.wait()
        for line in (f"ip route del {ADDRESS}/32 via 198.51.100.2", f"ip netns del {space}"):
            subprocess.run(line.split(), check=False, capture_output=True)
        turn.close()


@pytest.mark.case("A19")
def test_the_metadata_server_is_reached_from_another_network_and_never_from_a_run(
    image: str, tmp_path: Path, client: docker.APIClient, metadata_server: None
) -> None:
    other = client.create_container(image, ["python3", "-c", CONNECT], entrypoint=[])
    client.start(other["Id"])
    client.wait(other["Id"])
    seen = client.logs(other["Id"]).decode()
    client.remove_container(other["Id"])
    assert f"{ADDRESS} reached" in seen  # else this test could not fail

    plane = ran(image, tmp_path, ("python3", "-c", CONNECT))
    assert plane.log.count("unreachable") == 3
    assert "reached\n" not in plane.log


def test_secrets_stay_hidden_whatever_prints_them(image: str, tmp_path: Path) -> None:
    secret = "s3cret/value+1"
    command = """python3 -c '
import base64, os, sys, urllib.parse
s = os.environ["KEY"]
print(s, base64.b64encode(b"x" + s.encode()), urllib.parse.quote(s, safe=""), s.encode().hex())
for c in s: sys.stdout.write(c); sys.stdout.flush()
print("::warning::" + s)'; echo $KEY > $CYNTHUS_SUMMARY; mkdir -p outputs/$(echo $KEY | tr / _)
echo $KEY > outputs/leak; echo fine > outputs/fine"""
    plane = ran(image, tmp_path, command, secrets={"KEY": secret}, outputs=("outputs",))
    told = str(plane.beats) + str(plane.blobs)
    assert secret not in told
    assert secret.encode().hex() not in told
    assert plane.outputs["outputs/leak"]["left_out"] == "it holds the value of a secret"
    assert list(plane.blobs) == ["outputs/fine"]


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────

SAVES = "trap 'echo saved; exit 0' TERM; echo ready; while true; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo ready; while true; do sleep 0.05; done"
CHILD = """echo first; python3 -u -c '
import signal, sys, time
signal.signal(15, lambda *_: (print("child saved"), sys.exit(5)))
print("ready")
time.sleep(60)'; echo never"""


def stopped(image: str, folder: Path, command: Any, **changes: Any) -> tuple[ControlPlane, float]:
    """Tell a running command to stop and return with the seconds until its end was told."""
    work = a_work(image=image, command=command, **changes)
    with ControlPlane(work, heartbeat_s=0.5) as plane, an_agent(plane, folder) as agent:
        plane.wait(lambda: "ready" in plane.log)
        plane.stop = "cancelled by octocat"
        told = Stopwatch()
        plane.wait(lambda: plane.beats[-1]["state"] == "done")
        took_s = told.s
        agent.wait(LIMIT_S)
    return plane, took_s


STOPS = {
    "a script that saves its work": (("bash", "-c", SAVES), 0, "saved"),
    "a child of the shell": (CHILD, 5, "child saved"),
    "one that will not": (("bash", "-c", STUBBORN), 137, ""),
}


@pytest.mark.parametrize(("command", "code", "word"), STOPS.values(), ids=STOPS.keys())
def test_a_stop_is_obeyed_within_its_grace(
    image: str, tmp_path: Path, command: Any, code: int, word: str
) -> None:
    plane, took_s = stopped(image, tmp_path, command, stop_grace_s=1.0)
    assert plane.exit["stopped"]
    assert plane.exit["error"] == "cancelled by octocat"
    assert plane.exit["code"] in (code, 143)
    assert word in plane.log
    assert took_s < 10  # alone it takes 2 s: 0.5 beat + 1 grace


def test_the_deadline_is_kept_without_the_server(image: str, tmp_path: Path) -> None:
    plane = ran(image, tmp_path, ("sleep", "60"), deadline_s=1.5, stop_grace_s=0.2)
    assert plane.exit["stopped"]
    assert plane.exit["error"] == "the time limit is reached"


@pytest.mark.case("A2")
def test_an_attempt_that_is_over_ends_at_once(
    image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    work = a_work(image=image, command=("bash", "-c", STUBBORN), stop_grace_s=60.0)
    with ControlPlane(work, heartbeat_s=0.3) as plane, an_agent(plane, tmp_path) as agent:
        plane.wait(lambda: "ready" in plane.log)
        plane.status = 410
        assert agent.wait(LIMIT_S) == 1
    assert not our_containers(client)


def test_an_agent_cut_off_from_the_server_ends_its_work(
    image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    # Three seconds, in which a busy machine hears of at least one answer until it is cut off.
    work = a_work(
        image=image, command="echo ready; sleep 600", silence_limit_s=3.0, stop_grace_s=0.2
    )
    with ControlPlane(work, heartbeat_s=0.3) as plane, an_agent(plane, tmp_path):
        plane.wait(lambda: "ready" in plane.log)
        plane.status = 503
        running = {"label": f"cynthus.instance={INSTANCE}"}
        wait_until(lambda: not client.containers(filters=running), "the end of the container")
        plane.status = 200
        plane.wait(lambda: plane.beats[-1]["state"] == "done")
    assert plane.exit["error"] == "cut off from the server for too long"


@pytest.mark.case("A3")
def test_lost_answers_and_outages_change_nothing_of_what_is_told(
    image: str, tmp_path: Path
) -> None:
    command = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done; echo x > outputs/x"
    work = a_work(image=image, command=command, outputs=("outputs",))
    with ControlPlane(work, drop_answers=4, fail_puts=2) as plane:
        finished(plane, tmp_path)
    assert plane.log == "".join(f"line {i}\n" for i in range(1, 7))
    assert plane.blobs == {"outputs/x": b"x\n"}


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A12")
def test_outputs_are_collected_as_they_are_and_nothing_else_is(image: str, tmp_path: Path) -> None:
    command = r"""
    cd outputs; echo model > model.bin; ln model.bin hard; ln -s /etc/passwd link; mkfifo pipe
    mkdir -p 'a dir/-rf'; echo x > 'a dir/-rf/--help'; echo y > $'bad\xff'; echo z > $'new\nline'
    echo l > $(printf 'n%.0s' $(seq 255)); python3 -c "import socket; socket.socket(1).bind('sock')"
    dd if=/dev/zero of=big bs=1M seek=99 count=1 2>/dev/null; : > empty
    cd ..; echo r > result.json; echo no > other.txt; ln -s /etc outside; exit 4
    """
    plane = ran(
        image,
        tmp_path,
        command,
        outputs=("outputs", "*.json", "absent", "outside/passwd"),
        output_limit_bytes=1 << 20,
    )
    assert plane.exit["code"] == 4
    assert plane.blobs == {
        "outputs/model.bin": b"model\n",
        "outputs/hard": b"model\n",
        "outputs/a dir/-rf/--help": b"x\n",
        "outputs/" + "n" * 255: b"l\n",
        "outputs/empty": b"",
        "result.json": b"r\n",
    }
    left_out = {path: o["left_out"] for path, o in plane.outputs.items() if o["left_out"]}
    assert left_out == {
        "outputs/link": "a symbolic link",
        "outputs/pipe": "a named pipe",
        "outputs/bad?": "its name is not UTF-8",
        "outputs/new?line": "its name has control characters",
        "outputs/big": "outputs larger than 1048576 bytes together",
        "absent": "nothing was there when the command ended",
        "outside/passwd": "outside is a symbolic link",
    }


@pytest.mark.case("A12")
def test_more_files_than_the_limit_are_left_out_with_the_reason(image: str, tmp_path: Path) -> None:
    command = "cd outputs; for i in $(seq 10); do echo $i > f$i; done"
    plane = ran(image, tmp_path, command, outputs=("outputs",), output_limit_files=4)
    assert len(plane.blobs) == 4
    reasons = {o["left_out"] for o in plane.outputs.values() if o["left_out"]}
    assert reasons == {"more than 4 files"}
    assert len(plane.outputs) == 10


# ── floods and crashes ───────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A7")
def test_a_million_lines_harm_nobody(image: str, tmp_path: Path) -> None:
    work = a_work(image=image, command="seq 1000000", log_limit_bytes=1 << 20)
    with ControlPlane(work) as plane:
        finished(plane, tmp_path)
    assert plane.log.startswith("1\n2\n3\n")
    assert plane.log.endswith("more bytes of log were left out\n")
    assert len(plane.log) < 2 << 20
    assert plane.largest_beat < 512 * 1024


@pytest.mark.case("A21")
def test_a_second_agent_in_the_same_folder_refuses(image: str, tmp_path: Path) -> None:
    work = a_work(image=image, command="echo ready; sleep 60")
    with ControlPlane(work) as plane, an_agent(plane, tmp_path):
        plane.wait(lambda: "ready" in plane.log)
        with an_agent(plane, tmp_path) as second:
            assert second.wait(LIMIT_S) == 1
        assert len(plane.enrolments) == 1


def test_a_signal_to_the_agent_ends_its_container(
    image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    work = a_work(image=image, command=("bash", "-c", STUBBORN))
    with ControlPlane(work) as plane, an_agent(plane, tmp_path) as agent:
        plane.wait(lambda: "ready" in plane.log)
        agent.send_signal(signal.SIGTERM)
        agent.wait(LIMIT_S)
    assert not our_containers(client)
