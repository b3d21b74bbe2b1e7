"""Machines of the simulated Compute Engine, as far as both kinds promise the same and beyond."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.gcp_machines import Machines, Played, PlayError
from simulators.gcp_namespaces import Namespaces
from simulators.gcp_ns_cgroup import Group
from simulators.gcp_processes import Processes
from tests.contract.gcp_machines_fixture import (
    Host,
    a_host,
    a_machine,
    eventually,
    is_off,
    namespaces,
    run_in,
    says,
    small_tree,
)
from tests.registry_fixture import Registry, a_registry

ROOT = Path(__file__).parents[2]
ASK = (
    "curl -sf -H Metadata-Flavor:Google "
    '"http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1/'
)
SCRIPT = f"""#!/bin/sh
echo "begins as $({ASK}instance/name")"
echo "token $({ASK}instance/service-accounts/default/token")"
echo "identity $({ASK}instance/service-accounts/default/identity?audience=https://c.test&format=full")"
trap 'echo "heard the button"; exit 0' TERM
wait_for() {{ {ASK}instance/preempted?wait_for_change=true&timeout_sec=1"; }}
(until [ "$(wait_for)" = TRUE ]; do :; done; echo "preempted") &
echo "waits"
while :; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with a_host() as host:
        yield host


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with a_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, host: Host, registry: Registry
) -> Iterator[Namespaces]:
    """Machines in namespaces that reach the host's service and the registry."""
    ports = [host.port, int(registry.host.rpartition(":")[2])]
    machines = namespaces(tmp_path_factory.mktemp("machines"), ports)
    machines.sign_identity(lambda name, audience, form: f"{name}|{audience}|{form}")
    machines.issue_token(lambda name: {"access_token": f"of-{name}", "expires_in": 3599})
    yield machines
    machines.close()


@pytest.fixture(params=["processes", "namespaces"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    if request.param == "namespaces":
        yield request.getfixturevalue("real")
        return
    place = Processes(tmp_path, [])
    place.sign_identity(lambda name, audience, form: f"{name}|{audience}|{form}")
    place.issue_token(lambda name: {"access_token": f"of-{name}", "expires_in": 3599})
    yield place
    place.close()


def test_a_machine_lives_from_boot_to_removal(machines: Machines) -> None:
    assert machines.state("w1") is Played.OFF
    machines.boot(a_machine("w1", SCRIPT))
    output = says(machines, "w1", "waits")
    assert machines.state("w1") is Played.UP
    assert "begins as w1" in output
    assert '"access_token":"of-w1"' in output
    assert "identity w1|https://c.test|full" in output
    machines.write("w1", "instance/preempted", "TRUE")
    says(machines, "w1", "preempted")
    machines.soft_off("w1")
    is_off(machines, "w1")
    machines.remove("w1")
    assert machines.serial("w1") == ""
    machines.remove("w1")  # safe to repeat


def test_a_machine_that_lost_power_boots_again(machines: Machines) -> None:
    order = a_machine("w2", SCRIPT.replace("trap", "echo again; trap"))
    machines.boot(order)
    says(machines, "w2", "again")
    machines.power_off("w2")
    assert machines.state("w2") is Played.OFF
    address = machines.boot(order)
    eventually("up again", lambda: machines.state("w2") is Played.UP)
    assert machines.boot(order) == address  # it runs: nothing happens
    machines.remove("w2")


def test_a_process_tree_says_what_it_is_and_has_no_cable(tmp_path: Path) -> None:
    place = Processes(tmp_path, [])
    place.boot(a_machine("w1", "#cloud-config\n#process: echo I am $HOME\nruncmd: [reboot]\n"))
    output = says(place, "w1", "exit status 0")
    assert "not a machine but processes of this host" in output
    assert f"I am {tmp_path}" in output
    place.boot(a_machine("w2", "#cloud-config\nruncmd: [reboot]\n"))
    says(place, "w2", "nothing runs")
    with pytest.raises(PlayError, match="no cable of its own"):
        place.cut("w1", cut=True)
    with pytest.raises(PlayError, match="no disk of its own"):
        place.fill("w1", full=True)
    place.close()


def test_a_frozen_process_tree_goes_on_later_and_an_orphan_ends_with_it(tmp_path: Path) -> None:
    place = Processes(tmp_path, [])
    beats = "while :; do date +%N >beat; sleep 0.01; done"
    place.boot(a_machine("w1", f"#!/bin/sh\n(setsid sh -c 'echo $$ >pid; {beats}' &)\n"))
    beat = tmp_path / "machines/w1/beat"
    eventually("a beat", lambda: beat.exists() and beat.read_text())
    pid = int((tmp_path / "machines/w1/pid").read_text())
    place.freeze("w1", frozen=True)
    stopped = Path(f"/proc/{pid}/status")
    eventually("it stands", lambda: "T (stopped)" in stopped.read_text())
    place.freeze("w1", frozen=False)
    eventually("it goes on", lambda: "T (stopped)" not in stopped.read_text())
    place.power_off("w1")
    eventually("the orphan is gone", lambda: not stopped.exists())
    place.close()


# ── machines in namespaces ──────────────────────────────────────────────────────────────────────

SERVICE = """#cloud-config
write_files:
- path: /etc/systemd/system/hello.service
  permissions: '0644'
  content: |
    [Unit]
    Wants=gcr-online.target docker.socket
    After=gcr-online.target docker.socket
    [Service]
    Type=oneshot
    Environment=HOME=/var/lib/hello
    ExecStartPre=/usr/bin/docker-credential-gcr configure-docker --registries=us-docker.pkg.dev
    ExecStart=/usr/bin/docker run --rm --network host \\
      --volume /run/docker.sock:/run/docker.sock {image} \\
      sh -c 'echo container runs; ls /run; curl -s http://127.0.0.1:{port}/from-container'
    StandardOutput=journal+console
runcmd:
- systemctl daemon-reload
- systemctl start hello.service
- echo user data done
"""


def test_a_unit_of_the_user_data_runs_a_container_from_the_registry(
    real: Namespaces, host: Host, registry: Registry
) -> None:
    image = registry.push("hello", small_tree(), Env=["PATH=/usr/bin"])
    real.boot(a_machine("docker", SERVICE.format(image=image, port=host.port)))
    output = says(real, "docker", "user data done")
    assert "container runs" in output
    assert "docker.sock" in output
    assert "/from-container" in host.calls
    login = "echo us-docker.pkg.dev | docker-credential-gcr get"
    assert json.loads(run_in(real, "docker", login))["Secret"] == "of-docker"
    real.remove("docker")


def test_user_data_with_an_unknown_key_says_so(real: Namespaces) -> None:
    real.boot(a_machine("odd", "#cloud-config\nruncmds: [true]\n"))
    says(real, "odd", "unknown keys ['runcmds']")
    real.remove("odd")


def test_googles_own_agent_runs_the_scripts_of_boot_and_shutdown(real: Namespaces) -> None:
    scripts = {
        "startup-script": "#!/bin/sh\necho greets at boot\n",
        "shutdown-script": "#!/bin/sh\necho says goodbye\n",
    }
    real.boot(a_machine("scripts", "", attributes=scripts))
    says(real, "scripts", "startup-script: greets at boot")
    real.soft_off("scripts")
    is_off(real, "scripts")
    assert "shutdown-script: says goodbye" in real.serial("scripts")
    real.remove("scripts")


def test_each_machine_has_a_network_of_its_own(real: Namespaces, host: Host) -> None:
    serve = "#!/bin/sh\ncd /run && exec python3 -m http.server 29500 --bind 0.0.0.0\n"
    addresses = [real.boot(a_machine(name, serve)) for name in ("a", "b")]
    assert addresses[0] != addresses[1]
    for name, own, other in (("a", *addresses), ("b", *reversed(addresses))):
        ask = f"curl -s --max-time 2 -o /dev/null -w '%{{http_code}}' http://{other}:29500/"
        eventually("the other serves", lambda n=name, a=ask: run_in(real, n, a) == "200")
        assert run_in(real, name, f'{ASK}instance/network-interfaces/0/ip"') == own
        mac = run_in(real, name, f'{ASK}instance/network-interfaces/0/mac"')
        assert mac in run_in(real, name, "ip link show eth0")
    ask = f"curl -s --max-time 60 http://127.0.0.1:{host.port}/reached"
    assert run_in(real, "a", ask) == "/reached"
    outside = "curl -s --max-time 0.3 -o /dev/null -w '%{errormsg}' http://192.0.2.1/"
    assert "timed out" in run_in(real, "a", outside)  # nobody answers, as without a NAT
    assert "FEA9FEA9" not in Path("/proc/net/tcp").read_text()  # the host knows no 169.254.169.254
    for name in ("a", "b"):
        real.remove(name)


def test_a_cut_or_slow_cable_and_a_hung_machine(real: Namespaces, host: Host) -> None:
    beats = (
        f"#!/bin/sh\nwhile :; do curl -s -m 1 http://127.0.0.1:{host.port}/beat; sleep 0.02; done\n"
    )
    peer = real.boot(a_machine("peer", ""))
    real.boot(a_machine("w3", beats))
    eventually("beats", lambda: "/beat" in host.calls)
    verbs = (
        lambda on: real.cut("w3", cut=on),
        lambda on: real.freeze("w3", frozen=on),
    )
    for verb in verbs:
        verb(True)
        verb(True)
        eventually("silence", lambda: _silent(host))
        verb(False)
        before = len(host.calls)
        eventually("beats again", lambda n=before: len(host.calls) > n)
    ping = f"python3 -c 'import socket; socket.create_connection((\"{peer}\", 9), 5)'"
    assert "refused" in run_in(real, "w3", ping)  # the peer answers
    real.cut("w3", cut=True)
    assert "timed out" in run_in(real, "w3", ping)
    assert "w3" in run_in(real, "w3", f'{ASK}instance/name"')
    real.cut("w3", cut=False)
    real.slow("w3", 800)  # 100 kB/s
    begin = time.monotonic()
    size = run_in(real, "w3", f"curl -s http://127.0.0.1:{host.port}/blob/60000 | wc -c")
    assert (int(size), time.monotonic() - begin > 0.5) == (60000, True)
    real.slow("w3", None)
    for name in ("w3", "peer"):
        real.remove(name)


def _silent(host: Host) -> bool:
    """Say whether a machine that beats every 20 ms is silent for 0.4 s; some may be under way."""
    before = len(host.calls)
    time.sleep(0.4)
    return len(host.calls) == before


def test_a_full_disk_and_the_same_disk_after_a_power_loss(real: Namespaces) -> None:
    order = a_machine("disk", "#!/bin/sh\necho kept >/root/kept\n")
    real.boot(order)
    eventually("written", lambda: "kept" in run_in(real, "disk", "cat /root/kept"))
    real.fill("disk", full=True)
    write = "dd if=/dev/zero of=/var/lib/x bs=64k count=1"
    assert "No space left on device" in run_in(real, "disk", write)
    real.power_off("disk")
    real.boot(order)
    real.fill("disk", full=True)  # also at once: it waits for the disk and takes no other
    eventually("up", lambda: real.state("disk") is Played.UP)
    assert "No space left on device" in run_in(real, "disk", write)
    real.fill("disk", full=False)
    assert "copied" in run_in(real, "disk", write)
    assert "kept" in run_in(real, "disk", "cat /root/kept")
    real.remove("disk")


def test_stand_in_gpus_appear_when_their_driver_is_installed(real: Namespaces) -> None:
    gpus = {"gpus": 2, "gpu_model": "NVIDIA L4"}
    real.boot(a_machine("gpu", "", **gpus))
    eventually("up", lambda: real.state("gpu") is Played.UP)
    install = "cos-extensions install gpu; echo exit $?; "
    real.write("gpu", "instance/attributes/simulated-gpu-driver", "fails")
    assert "exit 1" in run_in(real, "gpu", install)
    real.write("gpu", "instance/attributes/simulated-gpu-driver", None)
    said = run_in(
        real,
        "gpu",
        install + "ls /dev/nvidia* /var/lib/nvidia/lib64; /var/lib/nvidia/bin/nvidia-smi",
    )
    assert "exit 0" in said
    for text in ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "libnvidia-ml.so.1"):
        assert text in said
    assert "GPU 1: NVIDIA L4" in said
    real.remove("gpu")


def test_an_accelerator_image_brings_driver_and_toolkit(
    real: Namespaces, registry: Registry
) -> None:
    image = registry.push("gpus", small_tree(), Env=["PATH=/usr/bin"])
    boot_image = (
        "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404"
    )
    order = a_machine("ubuntu", "", gpus=2, gpu_model="NVIDIA L4", boot_image=boot_image)
    real.boot(order)
    eventually("up", lambda: real.state("ubuntu") is Played.UP)
    assert "GPU 1: NVIDIA L4" in run_in(real, "ubuntu", "nvidia-smi")
    run = f"""docker run --rm --network none --gpus '"device=1"' {image}"""
    look = f"{run} sh -c 'ls /dev; cat /usr/lib/*/simulated-gpus'"
    said = run_in(real, "ubuntu", look)
    assert "nvidia1" in said
    assert "nvidia0" not in said
    assert said.count("NVIDIA L4") == 1
    real.remove("ubuntu")


PLAY = """
import sys, time
from pathlib import Path
from simulators.gcp_namespaces import Namespaces
from tests.contract.gcp_machines_fixture import a_machine
machines = Namespaces(Path(sys.argv[1]), [9])
machines.boot(a_machine("w1", "#!/bin/sh\\necho first >/root/kept; echo written; sleep 600"))
while "written" not in machines.serial("w1"):
    time.sleep(0.01)
print("plays", flush=True)
time.sleep(600)
"""


def test_a_killed_simulator_leaves_nothing_that_runs(real: Namespaces, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PLAY, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as player:
        assert player.stdout is not None
        assert player.stdout.readline() == b"plays\n"
        with pytest.raises(PlayError, match="another simulator"):
            Namespaces(tmp_path, [])
        eventually("a process", lambda: _processes_of(tmp_path))
        os.kill(player.pid, signal.SIGKILL)
    eventually("no process", lambda: not _processes_of(tmp_path))
    eventually("no loop device", lambda: str(tmp_path) not in _said("losetup", "--all"))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    again = Namespaces(tmp_path, [])
    assert again.state("w1") is Played.OFF
    again.boot(a_machine("w1", ""))
    eventually("the kept disk", lambda: "first" in run_in(again, "w1", "cat /root/kept"))
    again.close()
    assert not _processes_of(tmp_path)
    assert not [folder for folder in Group(again._group).folders if folder.exists()]
    assert [path.name for path in (tmp_path / "machines").iterdir()] == ["lock"]


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _processes_of(folder: Path) -> list[str]:
    """Return who has a mount of the folder's machines, or was started for them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_text() + (process / "mountinfo").read_text()
        except OSError:
            continue
        if str(folder) in told and process.name != str(os.getpid()):
            found.append(process.name)
    return found
