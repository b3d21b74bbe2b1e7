"""Play instances as machines in namespaces of this host, with systemd and a Docker engine.

As root on Linux only. What is real about them and what is not: docs/gcp_machines.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from simulators.gcp_machines import Machine, Played, PlayError
from simulators.gcp_metadata import Issuers, Values
from simulators.gcp_ns_cgroup import Group, hierarchies
from simulators.gcp_ns_machine import Ground, Life, Plan, make_disk
from simulators.gcp_ns_network import GATEWAY, MTU, Switch, address_of, mac_of
from simulators.gcp_ns_relay import RelayLoop
from simulators.gcp_root import default_cache, root_tree

PROGRAMS = ("systemd-nspawn", "ip", "tc", "nsenter", "unshare", "setpriv", "mkfs.ext4", "mount")
USER_DATA = "instance/attributes/user-data"


@dataclass
class _Record:
    """One machine, from its first boot to its removal."""

    number: int
    values: Values
    lock: threading.RLock = field(default_factory=threading.RLock)
    life: Life | None = None
    full: bool = False
    cut: bool = False
    kbit: int | None = None


class Namespaces:
    """Machines of this host. Raises PlayError when this host cannot, or another plays them."""

    isolated = True

    def __init__(self, state_dir: Path, reach: Sequence[int], cache: Path | None = None) -> None:
        _check_host()
        self._folder = state_dir.resolve() / "machines"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._owned = _own(self._folder)
        name = hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]
        self._group = f"cynthus-gcp-{name}"
        Group(self._group).remove()  # what a simulator that was killed has left
        self._ground = Ground(
            tree=root_tree(cache or default_cache()),
            switch=Switch(),
            relays=RelayLoop(),
            reach=tuple(reach),
            starter=ThreadPoolExecutor(max_workers=1, thread_name_prefix="gcp-machines"),
        )
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}
        self._issuers = Issuers()

    def boot(self, machine: Machine) -> str:
        """Power it on, unless it runs."""
        record = self._record(machine.name)
        with record.lock:
            if record.life is not None and record.life.running:
                return address_of(record.number)
            if record.life is not None:
                record.life.end()
            folder = self._folder / machine.name
            folder.mkdir(exist_ok=True)
            make_disk(folder / "disk.img", machine.disk_bytes)
            record.values = Values(_metadata(machine, record.number))
            plan = Plan(
                machine=machine,
                number=record.number,
                folder=folder,
                group=Group(f"{self._group}/{machine.name}"),
                values=record.values,
                identity=self._issuers.of(machine.name),
            )
            record.life = Life(self._ground, plan, full=record.full)
            record.life.cut(cut=record.cut)
            record.life.slow(record.kbit)
            return address_of(record.number)

    def _record(self, name: str) -> _Record:
        with self._lock:
            if name not in self._records:
                taken = {record.number for record in self._records.values()}
                number = next(number for number in range(len(taken) + 1) if number not in taken)
                self._records[name] = _Record(number, Values({}))
            return self._records[name]

    def state(self, name: str) -> Played:
        """Return up once it has asked for its user data."""
        record = self._records.get(name)
        if record is None or record.life is None or not record.life.running:
            return Played.OFF
        return Played.UP if USER_DATA in record.values.asked else Played.BOOTING

    def write(self, name: str, path: str, value: object) -> None:
        """Set a metadata value."""
        record = self._records.get(name)
        if record is not None:
            record.values.set(path, value)

    def sign_identity(self, sign: Callable[[str, str, str], str]) -> None:
        """Take who signs identity tokens."""
        self._issuers.sign = sign

    def issue_token(self, issue: Callable[[str], Mapping[str, Any]]) -> None:
        """Take who issues access tokens."""
        self._issuers.token = issue

    def soft_off(self, name: str) -> None:
        """Have its systemd power off, which runs the units' stop commands."""
        self._with_life(name, Life.press_power_button)

    def power_off(self, name: str) -> None:
        """Kill all that runs in it."""
        self._with_life(name, Life.end)

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Freeze all that runs in it."""
        self._with_life(name, lambda life: life.freeze(frozen=frozen))

    def cut(self, name: str, *, cut: bool) -> None:
        """Drop what it sends and what is sent to it, but for the metadata server's."""
        self._record(name).cut = cut
        self._with_life(name, lambda life: life.cut(cut=cut))

    def slow(self, name: str, kbit: int | None) -> None:
        """Limit each direction."""
        self._record(name).kbit = kbit
        self._with_life(name, lambda life: life.slow(kbit))

    def fill(self, name: str, *, full: bool) -> None:
        """Take all free blocks of its disk."""
        self._record(name).full = full
        self._with_life(name, lambda life: life.fill(full=full))

    def _with_life(self, name: str, work: Callable[[Life], None]) -> None:
        record = self._record(name)
        with record.lock:
            if record.life is not None and record.life.running:
                work(record.life)

    def enter(self, name: str) -> list[str]:
        """Return the words to put before a command that shall run in it. Raises PlayError."""
        life = self._record(name).life
        pid = None if life is None else life.first_process()
        if pid is None:
            raise PlayError(f"{name}: is off; boot it first.")
        return ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]

    def serial(self, name: str) -> str:
        """Return its console, with the journal."""
        path = self._folder / name / "serial"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def remove(self, name: str) -> None:
        """End it and delete its folder."""
        with self._lock:
            record = self._records.get(name)
        if record is not None:
            with record.lock:
                if record.life is not None:
                    record.life.end()
                    record.life = None
        shutil.rmtree(self._folder / name, ignore_errors=True)
        with self._lock:
            self._records.pop(name, None)

    def close(self) -> None:
        """Remove all."""
        for name in list(self._records):
            self.remove(name)
        Group(self._group).remove()
        self._ground.starter.shutdown()
        self._ground.relays.close()
        self._ground.switch.close()
        self._owned.close()


def _metadata(machine: Machine, number: int) -> dict[str, Any]:
    """Return its tree, with the network that it got here."""
    tree: dict[str, Any] = {"instance": {}, "project": {}, **machine.metadata}
    instance = dict(tree["instance"])
    cards = [dict(card) for card in instance.get("network-interfaces", ({},))]
    cards[0] |= {"ip": address_of(number), "mac": mac_of(number), "gateway": GATEWAY, "mtu": MTU}
    return tree | {"instance": instance | {"network-interfaces": cards}}


def _check_host() -> None:
    if os.geteuid() != 0:
        raise PlayError("machines in namespaces need root. Play them as processes instead.")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise PlayError(
            f"machines in namespaces need {', '.join(missing)}, not found on PATH. "
            "On Debian as root: make system."
        )
    hierarchies()


def _own(folder: Path) -> IO[str]:
    """Lock the folder until this process ends. Raises PlayError."""
    lock = (folder / "lock").open("w")
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    lock.close()
    raise PlayError(f"{folder}: another simulator plays the machines of this folder.")
