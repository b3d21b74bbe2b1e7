"""Run one attempt's command in a Docker container that is trusted with little."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cynthus.wire import Facts, Mark, Rendezvous, Work
from runner_images.agent import container_files
from runner_images.agent.clock import elapsed_s, wall_clock
from runner_images.agent.container_faults import api_error, translated
from runner_images.agent.container_image import Wanted, have_image
from runner_images.agent.container_network import (
    SHARED,
    Network,
    address_in,
    drop_network,
    gang_network,
    guard_host,
    have_network,
)
from runner_images.agent.container_settings import (
    LABEL_GPUS,
    SUMMARY,
    Place,
    Plan,
    create_arguments,
    writable_folders,
)
from runner_images.agent.engine import connect
from runner_images.agent.gpus import ChosenGpus, choose_gpus
from runner_images.agent.metadata import NoMetadata
from runner_images.agent.workload import (
    SUMMARY_LIMIT_BYTES,
    CannotStart,
    Ended,
    Found,
    Staged,
    Usage,
    check_driver,
    gang_variables,
    signal_of,
)

if TYPE_CHECKING:
    from docker import APIClient

# A machine of 16 GB tells 15.6: kernel and firmware keep their part. Whoever asks for all of a
# lent machine means all that there is.
KERNEL_PART = 0.1
MASTER_WAIT_S = 60.0  # rank 0 starts at the same beat of its agent: seconds, on a loaded machine
READ_BYTES = 64 * 1024
FRAME_HEADER = 8  # https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
ENGINE_RETURN_S = 30.0  # a restarted engine answers within seconds; after this it is not coming
RETRY_S = 0.5


class Container:
    """One container; the Workload that a Docker engine runs."""

    def __init__(self, work: Work, facts: Facts, place: Place) -> None:
        self._work = work
        self._facts = facts
        self._place = place
        self._engine: APIClient = None  # type: ignore[assignment]  # connected by `prepare`
        self._id = ""
        self._gpus = ChosenGpus((), ())
        self._network: Network | None = _network(work, place)  # None: the machine's own
        self._gang: dict[str, str] = {}
        self._data: tuple[Staged, ...] = ()
        self._ended: Ended | None = None
        self.notices: list[str] = []
        self.marks: list[Mark] = []

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """Return the GPUs of this run."""
        return self._gpus.uuids

    @property
    def checkpoint_folder(self) -> Path:
        """Return the folder that the container has a mount of."""
        return self._place.checkpoint_folder

    # ── before ───────────────────────────────────────────────────────────────────────────────

    def prepare(self, stopping: Callable[[], bool]) -> None:
        """Have the image, the network and the GPUs; raises CannotStart."""
        if self._place.fault:
            raise CannotStart(self._place.fault, infrastructure=True)
        check_driver(self._work, self._facts)
        self._check_capacity()
        self._engine = _connected(self._place.socket)
        try:
            with translated("image"):
                self._have_image(stopping)
        except NoMetadata as error:  # no token for the registry
            raise CannotStart(f"image: {error}", infrastructure=True) from error
        with translated("network"):
            self._have_network()
        self._take_gpus()

    def receive(self, data: tuple[Staged, ...]) -> None:
        """Make the container with the data mounted, but that of a gang; raises CannotStart."""
        self._data = data
        if self._work.gang is None:
            with translated("container"):
                self._create()

    def meet(self, rendezvous: Rendezvous) -> None:
        """Make the container of a gang, which is told where rank 0 is; raises CannotStart."""
        with translated("container"):
            self._gang = gang_variables(self._work, self._master(rendezvous))
            self._create()

    def _master(self, rendezvous: Rendezvous) -> str:
        """Return rank 0's address; on one machine its container's name was told instead.

        Programs try an address again that does not answer yet, but not a name that is unknown yet.
        """
        if self._network is None or not (self._work.gang and self._work.gang.rank):
            return rendezvous.address
        began = time.monotonic()
        while time.monotonic() - began < MASTER_WAIT_S:
            address = address_in(self._engine, rendezvous.address, self._network)
            if address is not None:
                return address
            time.sleep(RETRY_S)
        text = f"gang: rank 0 ({rendezvous.address}) did not start within {MASTER_WAIT_S:.0f} s"
        raise CannotStart(text, infrastructure=True)

    def _check_capacity(self) -> None:
        if not self._place.socket:
            text = f"image {self._work.image}: needs a Docker engine, and none answers here"
            raise CannotStart(text, infrastructure=True)
        # The engine accepts any amount of memory: https://docs.docker.com/engine/containers/resource_constraints/
        have, work, lent = self._facts, self._work, self._place.lent
        memory = int(have.memory_bytes * (1 + KERNEL_PART if lent else 1))
        for what, need, found in (
            ("memory", work.memory_bytes or 0, memory),
            ("cpu", work.cpu or 0, have.cpu_count),
            ("gpu", work.gpu_count, len(have.gpus)),
            # A lent machine's disk was ordered as the run asked; images take their part of it.
            ("disk", 0 if lent else work.disk_bytes or 0, have.disk_free_bytes),
        ):
            if need > found:
                text = f"resources/{what}: the run needs {need}, this instance has {found}"
                raise CannotStart(text, infrastructure=True)

    def _have_image(self, stopping: Callable[[], bool]) -> None:
        wanted = Wanted(
            name=self._work.image,
            login=self._place.login,
            stopping=stopping,
            tell=self.notices.append,
            clock=elapsed_s,
        )
        self._image = have_image(self._engine, wanted)
        self.marks.append(Mark(name="image_pulled", at=wall_clock()))

    def _have_network(self) -> None:
        if self._network is None:
            notice = guard_host()
        else:
            notice = have_network(self._engine, self._network, self._place.control_plane)
        if notice is not None:
            self.notices.append(notice)

    def _take_gpus(self) -> None:
        if not self._work.gpu_count:
            return
        filters = {"label": LABEL_GPUS}
        busy = self._engine.containers(filters=filters)
        taken = frozenset(",".join(found["Labels"][LABEL_GPUS] for found in busy).split(","))
        chosen = choose_gpus(self._facts.gpus, self._work.gpu_count, taken)
        if chosen is None:
            text = f"resources/gpu: {self._work.gpu_count} needed, too few are free here"
            raise CannotStart(text, infrastructure=True)
        self._gpus = chosen

    def _create(self) -> None:
        self._place.marker.write_text(self._place.instance, "utf-8")
        if self._work.checkpoint is not None:
            self._place.checkpoint_folder.mkdir(exist_ok=True)
        plan = Plan(
            work=self._work,
            place=self._place,
            image=self._image.get("Config", {}),
            machine_memory_bytes=self._facts.memory_bytes,
            gpu_uuids=self._gpus.uuids,
            network=self._network,
            gang=self._gang,
            data=self._data,
        )
        made = self._engine.create_container(**create_arguments(self._engine, plan))
        self._id = made["Id"]
        self._engine.put_archive(self._id, "/", writable_folders(self._work))

    # ── while ────────────────────────────────────────────────────────────────────────────────

    def start(self, output: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Start the command and hand over its output from a thread of its own."""
        with translated("command"):
            wanted = {"stdin": 0, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
            stream = self._engine.attach_socket(self._id, params=wanted)
            self._engine.start(self._id)
        thread = threading.Thread(
            target=self._follow, args=(stream, output, ended), name="output", daemon=True
        )
        thread.start()

    def _follow(
        self, stream: Any, output: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                for block in frames(stream):
                    output(block)
            self._ended = self._wait()
        finally:
            if self._ended is None:
                self.kill()
                self._ended = Ended(code=137, lost="the agent failed to follow the output")
            with contextlib.suppress(OSError):
                stream.close()
            ended()

    def _wait(self) -> Ended:
        """Return how it ended, through a restart of the engine."""
        from docker.errors import APIError
        from requests.exceptions import RequestException

        began = time.monotonic()
        fault = ""
        while time.monotonic() - began < ENGINE_RETURN_S:
            try:
                self._engine.wait(self._id, timeout=None)
                return _ended(self._engine.inspect_container(self._id)["State"])
            except (APIError, RequestException, OSError) as error:
                fault = str(error)
                if isinstance(error, APIError) and error.status_code == http.client.NOT_FOUND:
                    return Ended(code=137, signal=9, lost="the container was removed by another")
            time.sleep(RETRY_S)
        return Ended(code=137, lost=f"the Docker engine does not answer: {fault}")

    def ending(self) -> Ended | None:
        """Return how the command ended, or None while it runs."""
        return self._ended

    def terminate(self) -> None:
        """Send SIGTERM: to every process of a shell command, else to the command alone."""
        try:
            if isinstance(self._work.command, str):
                # `kill` of the shell itself reaches all of this user's processes but PID 1.
                words = ["sh", "-c", "kill -TERM -1"]
                ask = self._engine.exec_create(self._id, words, stdout=False, stderr=False)
                self._engine.exec_start(ask["Id"], detach=True)
            else:
                self._engine.kill(self._id, "SIGTERM")
        except api_error():
            self.kill()  # it has ended, or cannot be asked nicely

    def kill(self) -> None:
        """Send SIGKILL; it has ended already: nothing to do."""
        if self._id:
            with contextlib.suppress(api_error()):
                self._engine.kill(self._id, "SIGKILL")

    def usage(self) -> Usage:
        """Return the engine's own figures, for control groups of both versions alike."""
        try:
            stats: Any = self._engine.stats(self._id, stream=False, one_shot=True)
        except api_error():
            return Usage()
        memory = stats.get("memory_stats", {})
        details = memory.get("stats", {})
        # As `docker stats`: file pages that can be dropped are no use (v1: total_inactive_file).
        dropped = details.get("total_inactive_file", details.get("inactive_file", 0))
        used = memory.get("usage")
        nanoseconds = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        return Usage(
            cpu_s=None if nanoseconds is None else nanoseconds / 1e9,
            memory_bytes=None if used is None else max(0, used - dropped),
            memory_limit_bytes=memory.get("limit"),
        )

    def summary(self) -> bytes | None:
        """Return the first bytes of the summary file."""
        for found in container_files.members(self._engine, self._id, SUMMARY):
            if found.content is not None:
                return found.content.read(SUMMARY_LIMIT_BYTES)
        return None

    # ── after ────────────────────────────────────────────────────────────────────────────────

    def outputs(self, patterns: tuple[str, ...]) -> Iterator[Found]:
        """Yield the outputs out of the ended container."""
        return container_files.outputs(self._engine, self._id, patterns)

    def remove(self) -> None:
        """Remove the container; the provider's delete does it where this could not."""
        from docker.errors import NotFound

        if self._id:
            with contextlib.suppress(NotFound):
                self._engine.remove_container(self._id, force=True, v=True)
            self._id = ""
        shutil.rmtree(self._place.checkpoint_folder, ignore_errors=True)
        if self._network is not None and self._network.together and self._engine is not None:
            drop_network(self._engine, self._network, self._place.control_plane)
        self._place.marker.unlink(missing_ok=True)
        self._gpus.give_back()


def _network(work: Work, place: Place) -> Network | None:
    if work.gang is None:
        return SHARED
    if place.lent:
        return None
    return gang_network(place.control_plane, work.run_id, work.attempt)


def _connected(socket: str) -> APIClient:
    try:
        with translated("engine"):
            return connect(socket)
    except ImportError as error:
        text = f"engine: the Docker SDK is missing: {error}. Install `cynthus[agent]`."
        raise CannotStart(text, infrastructure=True) from error


def frames(stream: Any) -> Iterable[bytes]:
    """Yield what the frames of an attached stream carry, as it comes and never whole."""
    buffer = bytearray()
    left = 0  # of the current frame
    while True:
        data = stream.read(READ_BYTES)
        if not data:
            return
        buffer += data
        parts = []
        while buffer:
            if not left:
                if len(buffer) < FRAME_HEADER:
                    break
                left = int.from_bytes(buffer[4:FRAME_HEADER], "big")
                del buffer[:FRAME_HEADER]
            part = bytes(buffer[:left])
            del buffer[: len(part)]
            left -= len(part)
            parts.append(part)
        yield b"".join(parts)


def _ended(state: dict[str, Any]) -> Ended:
    code = int(state["ExitCode"])
    # A child's death by the memory limit leaves the parent's exit code: both are looked at.
    killed = bool(state.get("OOMKilled")) and code != 0
    return Ended(code=code, signal=signal_of(code), out_of_memory=killed)
