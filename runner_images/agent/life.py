"""Live on one instance: one attempt, or on a warm one several after another."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cynthus.codec import encode
from cynthus.wire import Enrolled, EventKind, Facts, Work
from runner_images.agent.checkpoints import Checkpoints, Ground
from runner_images.agent.clock import elapsed_s, wall_clock, wall_ns
from runner_images.agent.container_gpus import GpuMode
from runner_images.agent.door import Door
from runner_images.agent.masking import Masks
from runner_images.agent.outbox import Outbox
from runner_images.agent.outputs import Collector, Limits
from runner_images.agent.supervise import Attempt, Surroundings
from runner_images.agent.uplink import Orders, Times, Uplink
from runner_images.agent.workload import Workload

if TYPE_CHECKING:
    from runner_images.agent.staging import Staging

LOCK_FILE = "agent.lock"  # what stays in the instance's folder between two attempts


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What the agent was told of the instance at its start, with what it found."""

    name: str
    server_url: str
    control_plane: str
    state_dir: Path
    socket: str | None  # the Docker engine's; None: plain processes
    lent: bool  # a whole machine for this agent alone
    fault: str  # what its boot says against it
    gpu_mode: GpuMode
    login: Callable[[str], dict[str, str] | None]  # to an image's registry
    cache_dir: Path  # data that stays between runs: outside `state_dir`, which is cleaned
    reachable: frozenset[str] = frozenset()  # private hosts ("host:port") that data may come from


class Life:
    """The attempts of one agent; what comes from outside meets the one that is alive."""

    def __init__(self, instance: Instance, over: threading.Event) -> None:
        self._instance = instance
        self._over = over
        self._lock = threading.Lock()
        self._now: tuple[Attempt, Uplink] | None = None
        self._taken: str | None = None  # why the machine goes away
        self._preempted = False
        self._maintenance: str | None = None

    # ── said from outside, by other threads ──────────────────────────────────────────────────

    def take_back(self, reason: str, *, preempted: bool) -> None:
        """End within seconds and say why: the machine goes away."""
        with self._lock:
            self._taken = self._taken or reason
            self._preempted = self._preempted or preempted
            now = self._now
        if now is None:
            self._over.set()  # between two attempts there is nobody to tell
            return
        self._pass_on(*now)

    def announce(self, maintenance: str | None) -> None:
        """Tell the server of maintenance to come; None: of none any more."""
        with self._lock:
            self._maintenance = maintenance
            now = self._now
        if now is not None:
            now[1].report_maintenance(maintenance)

    def abandon(self, reason: str) -> None:
        """End at once, without a report."""
        with self._lock:
            now = self._now
        self._over.set()
        if now is not None:
            now[0].abandon(reason)

    @property
    def ending(self) -> bool:
        """Say whether no other attempt may follow."""
        return self._over.is_set() or self._taken is not None

    def _pass_on(self, attempt: Attempt, uplink: Uplink) -> None:
        with self._lock:
            taken, preempted, maintenance = self._taken, self._preempted, self._maintenance
        if maintenance is not None:
            uplink.report_maintenance(maintenance)
        if preempted:
            uplink.report_preempted()
        if taken is not None:
            attempt.take_back(taken)

    # ── one attempt ──────────────────────────────────────────────────────────────────────────

    def live(self, enrolled: Enrolled, facts: Facts) -> str | None:
        """Live one attempt; return why it was abandoned, or None when it was reported."""
        work, state_dir = enrolled.work, self._instance.state_dir
        masks = Masks([*work.secrets.values(), *work.hub_secrets.values(), enrolled.token])
        outbox = Outbox(
            state_dir / "outbox.jsonl", log_limit_bytes=work.log_limit_bytes, now=wall_clock
        )
        door = Door(self._instance.server_url, token=enrolled.token)
        limits = Limits(files=work.output_limit_files, total_bytes=work.output_limit_bytes)
        encryption = None
        if work.encrypt_to is not None:
            from runner_images.agent.encrypting import Encryption

            encryption = Encryption(work.encrypt_to, self._instance.cache_dir)
        collector = Collector(
            lambda: Door(self._instance.server_url, token=enrolled.token),
            masks,
            limits,
            over=self._over,
            encryption=encryption,
        )
        checkpoints = self._checkpoints(enrolled, outbox, masks)
        times = Times(beat_s=enrolled.heartbeat_s, clock=elapsed_s, now=wall_clock)
        orders = _Orders()
        uplink = Uplink(door, outbox, orders.all(masks), times)
        around = Surroundings(
            uplink=uplink,
            outbox=outbox,
            masks=masks,
            clock=elapsed_s,
            state_dir=state_dir,
            collect=collector.collect,
            hurry=collector.hurry,
            checkpoints=checkpoints,
            staging=self._staging(enrolled, outbox),
            stored=collector.stored,
            check=encryption.check if encryption else None,
        )
        orders.attempt = Attempt(work, self._workload(work, facts), around, self._over)
        try:
            return self._lived(orders.attempt, uplink)
        finally:
            uplink.close()
            if checkpoints is not None:
                checkpoints.close()
            outbox.close()
            if encryption is not None:
                encryption.close()

    def _checkpoints(self, enrolled: Enrolled, outbox: Outbox, masks: Masks) -> Checkpoints | None:
        work = enrolled.work
        if work.checkpoint is None:
            return None
        ground = Ground(
            run_id=work.run_id,
            state_dir=self._instance.state_dir,
            notice=outbox.notice,
            hide=masks.hide,
            clock=elapsed_s,
            now_ns=wall_ns,
            over=self._over,
        )
        door = Door(self._instance.server_url, token=enrolled.token)
        return Checkpoints(work.checkpoint, door, ground)

    def _lived(self, attempt: Attempt, uplink: Uplink) -> str | None:
        threading.Thread(target=uplink.run, name="uplink", daemon=True).start()
        with self._lock:
            self._now = (attempt, uplink)
        self._pass_on(attempt, uplink)  # what was heard while there was nobody to tell
        if self._over.is_set():
            attempt.abandon("told to end")
        try:
            return attempt.run()
        finally:
            with self._lock:
                self._now = None

    def _workload(self, work: Work, facts: Facts) -> Workload:
        if work.image.startswith("file://"):
            return self._process(work, facts)
        from runner_images.agent.container import Container
        from runner_images.agent.container_settings import Place

        instance = self._instance
        place = Place(
            socket=instance.socket or "",
            instance=instance.name,
            control_plane=instance.control_plane,
            state_dir=instance.state_dir,
            lent=instance.lent,
            fault=instance.fault,
            gpu_mode=instance.gpu_mode,
            login=instance.login,
        )
        return Container(work, facts, place)

    def _process(self, work: Work, facts: Facts) -> Workload:
        from runner_images.agent.process import Process

        instance = self._instance
        workload = Process(work, facts, instance=instance.name, folder=instance.state_dir)
        why = "no Docker engine: " if instance.socket is None else ""
        workload.notices.append(f"{why}ran as a plain process without isolation")
        return workload

    def _staging(self, enrolled: Enrolled, outbox: Outbox) -> Staging | None:
        if not enrolled.work.data:
            return None
        # Imported by runs with data alone: clients of hubs and archives cost the others memory.
        from runner_images.agent.public_http import Trust
        from runner_images.agent.shared_cache import SharedCache
        from runner_images.agent.staging import Stage, Staging

        stage = Stage(
            cache_dir=self._instance.cache_dir,
            shared=SharedCache(self._instance.server_url, enrolled.token, self._over),
            clock=elapsed_s,
            now=lambda: wall_clock().timestamp(),
            tell=lambda view: outbox.add(EventKind.STAGING, encode(view)),
            notice=outbox.notice,
            trust=Trust(allowed=self._instance.reachable),
        )
        return Staging(enrolled.work, stage)

    def clean(self) -> None:
        """Leave nothing of the attempt before on the disk; images stay in the engine."""
        for entry in self._instance.state_dir.iterdir():
            if entry.name == LOCK_FILE:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


class _Orders:
    """The server's orders to an attempt that is made after the uplink which hears them."""

    attempt: Attempt | None = None

    def all(self, masks: Masks) -> Orders:
        return Orders(
            stop=lambda reason: self.attempt.stop(reason) if self.attempt else None,
            over=lambda reason: self.attempt.abandon(reason) if self.attempt else None,
            mask=masks.add,
            meet=lambda rendezvous: self.attempt.meet(rendezvous) if self.attempt else None,
            prolong=lambda left_s: self.attempt.prolong(left_s) if self.attempt else None,
        )
