"""One boot of one machine in namespaces: everything it stands on, from power on to power off."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from simulators.gcp_hardware import write_hardware
from simulators.gcp_machines import Machine, PlayError
from simulators.gcp_metadata import Identity, Values
from simulators.gcp_metadata_server import MetadataServer
from simulators.gcp_ns_cgroup import DEATH_S, Group
from simulators.gcp_ns_network import Cable, Switch
from simulators.gcp_ns_relay import Relay, RelayLoop

BOOT_SCRIPT = Path(__file__).with_name("gcp_ns_boot.sh")
POWER_BUTTON = signal.SIGRTMIN + 4  # systemd: start poweroff.target
BLOCK_BYTES = 4096
MOUNT_S = 5.0  # mounting takes 20 ms; a busy host some more
PAUSE_S = 0.005
# The boot script is the first process of its namespaces, so that killing one process ends all.
LAUNCHER = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all machines stand on."""

    tree: Path
    switch: Switch
    relays: RelayLoop
    reach: Sequence[int]
    starter: Executor  # one thread: see `_start`


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one machine is made of, at this boot and the next."""

    machine: Machine
    number: int
    folder: Path
    group: Group
    values: Values
    identity: Identity


class Life:
    """From power on to power off."""

    def __init__(self, ground: Ground, plan: Plan, *, full: bool) -> None:
        self.plan = plan
        plan.group.make(cpus=plan.machine.cpus, memory_bytes=plan.machine.memory_bytes)
        self.cable = Cable(ground.switch, plan.number)
        self._server: MetadataServer | None = None
        self._relay: Relay | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.cable.plug_in()
            listener = self.cable.metadata_listener()
            self._server = MetadataServer(listener, plan.values, plan.identity)
            ports = {port: self.cable.loopback_listener(port) for port in ground.reach}
            self._relay = Relay(ground.relays, ports)
            write_hardware(plan.folder / "hardware", plan.machine)
            self._process = ground.starter.submit(_start, ground, self, full).result()
        except BaseException:
            self.end()
            raise

    @property
    def running(self) -> bool:
        """Say whether it has not powered itself off."""
        return self._process is not None and self._process.poll() is None

    def press_power_button(self) -> None:
        """Ask its systemd to power off; a machine without one yet does not notice."""
        pid = self.first_process()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, POWER_BUTTON)

    def first_process(self) -> int | None:
        """Return its process 1, as the host numbers it."""
        depth = len(_numbers(os.getpid())) + 2  # one namespace is the boot script's, one systemd's
        for pid in self.plan.group.processes():
            numbers = _numbers(pid)
            if len(numbers) == depth and numbers[-1] == "1":
                return pid
        return None

    def cut(self, *, cut: bool) -> None:
        """Pull the cable, or put it back. Safe to repeat."""
        self.cable.cut(cut=cut)
        self._hold("cut", held=cut)

    def freeze(self, *, frozen: bool) -> None:
        """Hang it, or let it go on. Safe to repeat."""
        self.plan.group.freeze(frozen=frozen)
        self._hold("frozen", held=frozen)

    def slow(self, kbit: int | None) -> None:
        """Limit its network. Safe to repeat."""
        self.cable.slow(kbit)
        if self._relay is not None:
            self._relay.flow.bytes_per_s = None if kbit is None else kbit * 1000 / 8

    def _hold(self, reason: str, *, held: bool) -> None:
        if self._relay is not None:
            change = self._relay.flow.stopped.add if held else self._relay.flow.stopped.discard
            change(reason)

    def fill(self, *, full: bool) -> None:
        """Give all free blocks of its disk to one file, or free them. Safe to repeat."""
        filler = self._disk() / "filler"
        if full:
            _take_all_blocks(filler)
        else:
            filler.unlink(missing_ok=True)

    def _disk(self) -> Path:
        """Return where its disk is mounted, as soon as it is. Raises PlayError when it never is."""
        assert self._process is not None
        # Through the mount namespace of the process that mounted it; before that the path leads
        # into a folder of the host, whose disk must not be filled.
        disk = Path(f"/proc/{self._process.pid}/root{self.plan.folder}/disk")
        until = time.monotonic() + MOUNT_S
        while self.running and time.monotonic() < until:
            with contextlib.suppress(OSError):
                if disk.stat().st_dev != self.plan.folder.stat().st_dev:
                    return disk
            time.sleep(PAUSE_S)
        raise PlayError(f"{self.plan.machine.name}: its disk was not mounted; see its serial port.")

    def end(self) -> None:
        """Pull the plug: nothing of this boot but the disk is there when it returns. Repeatable."""
        try:
            if self._process is not None:
                self._process.kill()  # it may not have joined its groups yet
            self.plan.group.remove()
            if self._process is not None:
                self._process.wait()
            _wait_until_detached(self.plan.folder / "disk.img")
        finally:
            self._unplug()

    def _unplug(self) -> None:
        self.plan.values.close()
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cable.close()


def _numbers(pid: int) -> list[str]:
    """Return a process's number in each pid namespace, the host's first; none if it ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[1:]
    return []


def _start(ground: Ground, life: Life, full: bool) -> subprocess.Popen[bytes]:
    """Start the boot script, which dies with the thread that calls this, and all below with it.

    PR_SET_PDEATHSIG goes by thread, not by process, so it is one thread that lives to the end.
    https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html
    """
    plan = life.plan
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TREE": str(ground.tree),
        "FOLDER": str(plan.folder),
        "NAME": str(plan.machine.metadata["instance"].get("name", plan.machine.name)),
        "NETWORK": life.cable.namespace.path,
        "CONTROL_GROUPS": " ".join(str(folder) for folder in plan.group.folders),
        "FULL": "yes" if full else "",
    }
    with (plan.folder / "serial").open("ab") as serial:
        return subprocess.Popen(
            [*LAUNCHER, str(BOOT_SCRIPT)],
            stdin=subprocess.DEVNULL,
            stdout=serial,
            stderr=serial,
            env=environment,
            start_new_session=True,
        )


def make_disk(path: Path, size_bytes: int) -> None:
    """Make an empty disk, unless there is one. It takes room on the host only as it is written.

    Without a journal: a machine's crash is a killed process, which loses nothing in the kernel.
    """
    if path.exists():
        return
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.truncate(size_bytes)
    options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]
    done = subprocess.run(
        ["mkfs.ext4", *options, str(new)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PlayError(f"{path}: a disk of {size_bytes} bytes: {done.stderr.strip()}")
    new.rename(path)


def _wait_until_detached(disk: Path) -> None:
    """Return when no loop device has the disk: the kernel unmounts a little after the last exit."""
    until = time.monotonic() + DEATH_S
    while any(_backing(device) == str(disk) for device in Path("/sys/block").glob("loop*")):
        if time.monotonic() > until:
            raise TimeoutError(f"{disk}: still mounted {DEATH_S} s after its machine ended")
        time.sleep(PAUSE_S)


def _backing(device: Path) -> str:
    try:
        return (device / "loop/backing_file").read_text().strip()
    except OSError:  # it has none
        return ""


def _take_all_blocks(filler: Path) -> None:
    """Reserve what is free, without writing it: the host's disk stays as it is."""
    with filler.open("ab") as file:
        room = os.fstatvfs(file.fileno())
        step = room.f_bfree * room.f_frsize
        while step >= BLOCK_BYTES:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            except OSError:
                step //= 2
