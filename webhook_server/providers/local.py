"""Lend this machine: an instance is an agent process with what it started.

Each instance is a folder; it is made first and removed last, so that a crash at any moment leaves
something to find. The agent holds the lock of its folder from its birth: the lock, not a number of
a process, says whether it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from cynthus.spec import GpuNeed, Resources
from webhook_server.providers import local_engine, local_processes
from webhook_server.providers.provider import (
    Instance,
    InstanceNotFound,
    Misconfigured,
    NoCapacity,
    NothingFits,
    ProviderUnavailable,
)
from webhook_server.runs.lending import Offer, Order

PLACE = "this machine"
LABEL_PLANE, LABEL_INSTANCE = "cynthus.control_plane", "cynthus.instance"
INSTANCE_MARK = "CYNTHUS_INSTANCE"  # the agent puts it into the environment of what it runs
TERM_WAIT_S = 0.5  # an agent that is told to end kills what it runs and is gone
KILL_WAIT_S = 1.0  # the kernel's part after SIGKILL; longer: the next delete looks again
LOOK_S = 0.005
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine has and how the server uses it."""

    state_dir: Path
    server_url: str
    control_plane: str  # so that two servers on one machine never touch each other's
    slots: int
    engine_socket: str = "/var/run/docker.sock"
    engine: str = "auto"  # or "docker", "process": handed to the agents
    # What the agents get of the server's environment: nothing that could be a secret.
    environment: Mapping[str, str] = field(default_factory=dict)


class Local:
    """The provider `local`."""

    name = "local"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._folder = machine.state_dir / "instances"

    # ── the five verbs ───────────────────────────────────────────────────────────────────────

    def offers(self, need: Resources) -> list[Offer]:
        """Return this machine for free; raises NoCapacity while its slots are taken."""
        gpu = self._gpu_for(need)
        unfit = unfit_text(need, self._has(), fits_gpu=bool(gpu or not need.gpu))
        if unfit is not None:
            raise NothingFits(unfit)
        self._check_room(need, gpu.count if gpu else 0, copies=need.nodes)
        return [self._offer(gpu)]

    def create(self, order: Order, enrol_secret: str) -> Instance:
        """Start an agent in a folder of this name, unless one was started there before."""
        if not _NAME.fullmatch(order.name):
            raise Misconfigured(f"instance name {order.name!r}: should match {_NAME.pattern}")
        try:
            with self._creating():
                folder = self._folder / order.name
                if not folder.exists():
                    self._check_room(order.need, order.offer.gpu_count, but=order.name)
                    self._make(folder, order, enrol_secret)
                self._start_once(folder, order)
        except OSError as error:
            raise ProviderUnavailable(f"{PLACE}: {error}") from error
        return self.get(order.name)

    def get(self, name: str) -> Instance:
        """Return the instance; raises InstanceNotFound."""
        if self._known(name):
            return self._described(name)
        if self._containers(instance=name):
            return _orphan(name)
        raise InstanceNotFound(f"{PLACE} has no instance {name!r}")

    def list(self) -> list[Instance]:
        """Return all folders, with containers whose folder was lost."""
        names = self._names()
        marked = {str(c["Labels"][LABEL_INSTANCE]) for c in self._containers()}
        return [self._described(name) for name in names] + [
            _orphan(name) for name in sorted(marked - set(names))
        ]

    def delete(self, name: str) -> None:
        """End everything of the instance; raises InstanceNotFound once nothing is left.

        Waits about a second at most: what takes longer is found by the next call.
        """
        folder = self._folder / name
        if self._known(name):
            if not self._end_agent(folder):
                return
            self._end_processes(name, folder)
        if self._remove_containers(name, folder) and self._known(name):
            # The folder goes in one step, so that no half of it is ever taken for an instance.
            gone = folder.with_name(f".{name}")
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self.get(name)

    # ── what fits ────────────────────────────────────────────────────────────────────────────

    def _has(self) -> Has:
        return Has(
            gpus=self._gpus,
            cpu=self._cpu,
            memory_bytes=self._memory_bytes,
            disk_bytes=self._disk_bytes,
            slots=self._machine.slots,
        )

    def _offer(self, gpu: GpuNeed | None) -> Offer:
        return Offer(
            provider=self.name,
            place=PLACE,
            machine=PLACE,
            gpu_type=gpu.type if gpu else None,
            gpu_count=gpu.count if gpu else 0,
            cpu=self._cpu,
            memory_bytes=self._memory_bytes,
            usd_per_hour=Decimal(0),
            driver=self._driver if gpu else "",
        )

    def _gpu_for(self, need: Resources) -> GpuNeed | None:
        for gpu in need.gpu:
            fitting = sum(is_model(gpu.type, model) for model in self._gpus)
            if fitting >= gpu.count * need.nodes:
                return gpu
        return None

    def _check_room(
        self, need: Resources, gpu_count: int, *, but: str = "", copies: int = 1
    ) -> None:
        """Raise NoCapacity unless so many more instances fit beside those that are there."""
        orders = [self._order_of(name) for name in self._names() if name != but]
        slots = self._machine.slots
        if len(orders) + copies > slots:
            taken = f"{len(orders)} of" if len(orders) < slots else "all"
            raise NoCapacity(f"{PLACE}: {taken} {slots} slots are taken")
        memory = sum(order.get("memory_bytes") or 0 for order in orders)
        if memory + (need.memory_bytes or 0) * copies > self._memory_bytes:
            raise NoCapacity(f"{PLACE}: its memory is promised to other runs")
        gpus = sum(order.get("gpu_count") or 0 for order in orders)
        if gpus + gpu_count * copies > len(self._gpus):
            raise NoCapacity(f"{PLACE}: its GPUs are taken")

    @cached_property
    def _cpu(self) -> int:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @cached_property
    def _memory_bytes(self) -> int:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @property
    def _disk_bytes(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shutil.disk_usage(self._folder).free

    @cached_property
    def _gpus(self) -> tuple[str, ...]:
        return tuple(line.rpartition(",")[0].strip() for line in self._told_by_driver)

    @cached_property
    def _driver(self) -> str:
        return next((line.rpartition(",")[2].strip() for line in self._told_by_driver), "")

    @cached_property
    def _told_by_driver(self) -> tuple[str, ...]:
        """Ask once: GPUs and their driver do not come and go while a machine runs."""
        words = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
        try:
            answer = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):  # no driver: no GPU
            return ()
        return tuple(answer.stdout.splitlines()) if answer.returncode == 0 else ()

    # ── making ───────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        """Let one thread of one process at a time count the slots and take one."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".creating").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make(self, folder: Path, order: Order, enrol_secret: str) -> None:
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        promised = {
            "run_id": order.run_id,
            "attempt": order.attempt,
            "memory_bytes": order.need.memory_bytes,
            "gpu_count": order.offer.gpu_count,
        }
        (unfinished / "order.json").write_text(json.dumps(promised), "utf-8")
        secret = os.open(unfinished / "secret", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(secret, "w", encoding="utf-8") as file:
            file.write(enrol_secret)
        unfinished.rename(folder)  # it is an instance from here on, whole

    def _start_once(self, folder: Path, order: Order) -> None:
        """Start the agent, unless one lives or lived here: a dead one is never replaced."""
        if (folder / "agent.json").exists():
            return
        held = local_processes.lock(folder / "agent.lock")
        if held is None:
            return  # started, but the server died before it wrote that down
        try:
            agent = self._start(folder, order, held)
        finally:
            os.close(held)  # the agent has it open too, from its birth on
        local_processes.write_record(folder / "agent.json", agent.pid)
        # It is our child until we end: without somebody who waits it would stay as a zombie.
        threading.Thread(target=agent.wait, name=f"wait {order.name}", daemon=True).start()

    def _start(self, folder: Path, order: Order, held: int) -> subprocess.Popen[bytes]:
        machine = self._machine
        words = [
            # -P: nothing is imported from the instance's own folder.
            *(sys.executable, "-P", "-m", "runner_images.agent", "run"),
            *("--server", machine.server_url, "--instance", order.name),
            *("--secret-file", str(folder / "secret"), "--state-dir", str(folder)),
            *("--control-plane", machine.control_plane, "--engine", machine.engine),
            *("--cache-dir", str(machine.state_dir / "cache")),
            *("--max-life", str(order.max_life.total_seconds()), "--lock-fd", str(held)),
        ]
        # The agent says next to nothing (its log goes to the server): the file stays small.
        with (folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                words,
                cwd=folder,
                env={**machine.environment, "PYTHONPATH": _import_path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(held,),
            )

    # ── looking ──────────────────────────────────────────────────────────────────────────────

    def _names(self) -> tuple[str, ...]:
        try:
            entries = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ProviderUnavailable(f"{PLACE}: {error}") from error
        return tuple(sorted(entry for entry in entries if _NAME.fullmatch(entry)))

    def _known(self, name: str) -> bool:
        return bool(_NAME.fullmatch(name)) and (self._folder / name).is_dir()

    def _described(self, name: str) -> Instance:
        alive = local_processes.is_locked(self._folder / name / "agent.lock")
        detail = "" if alive else "its agent has ended"
        return Instance(name=name, place=PLACE, alive=alive, detail=detail)

    def _order_of(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / name / "order.json").read_text())
        except (OSError, ValueError):  # it is being removed
            return {}
        return found

    def _containers(self, *, instance: str | None = None) -> tuple[dict[str, Any], ...]:
        """Return our containers; without an engine nothing can run in one."""
        labels = {LABEL_PLANE: self._machine.control_plane}
        if instance is not None:
            labels[LABEL_INSTANCE] = instance
        if not os.path.exists(self._machine.engine_socket):
            return ()
        with contextlib.suppress(local_engine.EngineAway):
            return tuple(local_engine.containers(self._machine.engine_socket, labels))
        return ()

    # ── ending ───────────────────────────────────────────────────────────────────────────────

    def _end_agent(self, folder: Path) -> bool:
        """Say whether the agent is gone."""
        for number, wait_s in ((signal.SIGTERM, TERM_WAIT_S), (signal.SIGKILL, KILL_WAIT_S)):
            if not local_processes.is_locked(folder / "agent.lock"):
                return True
            recorded = local_processes.read_record(folder / "agent.json")
            agents = [recorded] if recorded else self._unrecorded(folder)
            for agent in agents:
                agent.end(number)
            if _unlocked_within(folder / "agent.lock", wait_s):
                return True
        return False

    def _unrecorded(self, folder: Path) -> Sequence[local_processes.Recorded]:
        return local_processes.with_argument("--state-dir", str(folder))

    def _end_processes(self, name: str, folder: Path) -> None:
        """Kill what a dead agent left running without an engine."""
        session = local_processes.read_record(folder / "process.json")
        if session is not None:
            local_processes.kill(local_processes.of_session(session))
            local_processes.kill(local_processes.with_environment(INSTANCE_MARK, name))

    def _remove_containers(self, name: str, folder: Path) -> bool:
        """Say whether no container is left; raises ProviderUnavailable when nobody can tell."""
        marker = folder / "container"  # the agent's word that there may be one
        if self._known(name) and not marker.exists():
            return True
        labels = {LABEL_PLANE: self._machine.control_plane, LABEL_INSTANCE: name}
        path = self._machine.engine_socket
        try:
            found = local_engine.containers(path, labels)
            removed = [local_engine.remove(path, container["Id"]) for container in found]
            return all(removed)  # each is tried, also after one that takes longer
        except local_engine.EngineAway as error:
            if not marker.exists():
                return True
            raise ProviderUnavailable(f"{PLACE}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Has:
    """What a machine has."""

    gpus: tuple[str, ...]
    cpu: int
    memory_bytes: int
    disk_bytes: int
    slots: int  # instances at once


def unfit_text(need: Resources, has: Has, *, fits_gpu: bool) -> str | None:
    """Return what of a need this machine never has, or None when all fits."""
    nodes = need.nodes
    wanted = " or ".join(f"{gpu.count * nodes} x {gpu.type}" for gpu in need.gpu)
    gpus = ", ".join(has.gpus) or "no GPU"
    pairs = [
        ("nodes", nodes > has.slots, f"{nodes}", f"{has.slots} slots (CYNTHUS_LOCAL_SLOTS)"),
        ("gpu", not fits_gpu, wanted, gpus),
        ("cpu", (need.cpu or 0) > has.cpu, f"{need.cpu}", f"{has.cpu}"),
        _sizes("memory", (need.memory_bytes or 0) * nodes, has.memory_bytes, ""),
        _sizes("disk", (need.disk_bytes or 0) * nodes, has.disk_bytes, " free"),
    ]
    told = [
        f"resources/{name}: should be what {PLACE} has, found {asked} where it has {there}."
        " Ask for less, or name another provider."
        for name, too_much, asked, there in pairs
        if too_much
    ]
    return "\n".join(told) or None


def _sizes(name: str, need: int, has: int, more: str) -> tuple[str, bool, str, str]:
    return name, need > has, f"{need / 1e9:.1f} GB", f"{has / 1e9:.1f} GB{more}"


def is_model(wanted: str, model: str) -> bool:
    """Say whether a GPU's model is the type that a spec names: `l4` is `NVIDIA L4`, no `L40S`."""
    words = re.findall(r"[a-z0-9]+", model.lower())
    runs = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    return all(word in runs for word in re.findall(r"[a-z0-9]+", wanted.lower()))


def _unlocked_within(path: Path, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if not local_processes.is_locked(path):
            return True
        time.sleep(LOOK_S)
    return False


def _orphan(name: str) -> Instance:
    return Instance(name=name, place=PLACE, alive=False, detail="a container without its agent")


def _import_path() -> str:
    """Return where the agent's packages are: beside ours, in a checkout as in an installation."""
    return str(Path(__file__).resolve().parents[2])
