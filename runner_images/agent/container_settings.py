"""Say with what a run's container is created: as little as it needs."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cynthus.wire import Work
from runner_images.agent.container_gpus import GpuMode, gpu_access
from runner_images.agent.container_network import HOST, LABEL_PLANE, Network, way_out
from runner_images.agent.metadata_guard import NAMES
from runner_images.agent.workload import (
    DATA_FOLDER,
    DATA_VARIABLE,
    INSTANCE_MARK,
    OUTPUTS_FOLDER,
    Staged,
    arguments,
    checkpoint_path,
)

if TYPE_CHECKING:
    from docker import APIClient

WORKSPACE = "/workspace"
CONTROL_FOLDER = "cynthus"  # at the container's root: outside the workspace and of every mount
SUMMARY = f"/{CONTROL_FOLDER}/summary.md"
LABEL_INSTANCE = "cynthus.instance"
LABEL_RUN, LABEL_GPUS = "cynthus.run", "cynthus.gpus"
# Who an image's root becomes: Cynthus' own images belong to this user (uid 1000), and a user's
# Dockerfile that names none gets the same instead of root.
PLAIN_USER = "1000:1000"
_PLAIN_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
HOST_RESERVE_BYTES = 256 << 20  # left to the machine when the spec names no memory: agent, engine
LEAST_MEMORY_BYTES = 256 << 20  # on a machine that is smaller than any of use


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and under which names the container runs."""

    socket: str
    instance: str
    control_plane: str
    state_dir: Path
    lent: bool = False  # a whole machine for this agent's run alone
    fault: str = ""  # what its boot says against it
    gpu_mode: GpuMode = GpuMode.AUTO
    login: Callable[[str], dict[str, str] | None] = lambda _: None  # to an image's registry

    @property
    def checkpoint_folder(self) -> Path:
        """Return the folder that is mounted as the run's: engine and agent know it by one path."""
        return self.state_dir / "checkpoint"

    @property
    def marker(self) -> Path:
        """Return the file that says: a container may exist (removed once it does not)."""
        return self.state_dir / "container"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a container's settings depend on."""

    work: Work
    place: Place
    image: Mapping[str, Any]  # the image's own `Config`
    machine_memory_bytes: int
    gpu_uuids: tuple[str, ...]
    network: Network | None  # None: the machine's own
    gang: Mapping[str, str]  # the variables by which its members meet
    data: tuple[Staged, ...] = ()


def create_arguments(engine: APIClient, plan: Plan) -> dict[str, Any]:
    """Return the arguments of `create_container`; the engine is not asked anything."""
    user = _user(plan)
    env = [f"{name}={value}" for name, value in plan.work.env.items()]
    access = gpu_access(plan.place.gpu_mode, plan.gpu_uuids, [*_image_env(plan), *env])
    return {
        "image": plan.work.image,
        "command": list(arguments(plan.work)),
        "entrypoint": [],
        "name": plan.place.instance,
        "user": user,
        "working_dir": WORKSPACE,
        "environment": {**_environment(plan, user), **access.variables},
        "labels": _labels(plan),
        "host_config": _host_config(engine, plan, access.options),
        # Rank 0 finds itself under the name that the others were told.
        "hostname": plan.place.instance if plan.network and plan.gang else None,
        "stdin_open": False,
    }


def _user(plan: Plan) -> str:
    user = str(plan.image.get("User") or "")
    name = user.partition(":")[0]
    if plan.network is None:
        # Root alone passes the guard of the machine's own network, and an image may give its
        # root any name: only a number tells for certain.
        return user if _PLAIN_NUMBER.fullmatch(name) else PLAIN_USER
    return PLAIN_USER if name in ("", "0", "root") else user


def _image_env(plan: Plan) -> list[str]:
    return list(plan.image.get("Env") or [])


def _environment(plan: Plan, user: str) -> dict[str, str]:
    # A user without an entry in the image's /etc/passwd would get `/`, where it cannot write.
    named = any(item.startswith("HOME=") for item in _image_env(plan))
    home = {} if named or user != PLAIN_USER else {"HOME": "/tmp"}  # noqa: S108 - the container's own
    return {
        **home,
        **(_way_to_peers() if plan.network is None else {}),
        **plan.work.env,
        **plan.work.secrets,
        **plan.gang,
        "CYNTHUS_OUTPUTS": f"{WORKSPACE}/{OUTPUTS_FOLDER}",
        "CYNTHUS_CHECKPOINTS": f"{WORKSPACE}/{checkpoint_path(plan.work)}",
        "CYNTHUS_SUMMARY": SUMMARY,
        **({DATA_VARIABLE: DATA_FOLDER} if plan.data else {}),
        INSTANCE_MARK: plan.place.instance,
    }


def _way_to_peers() -> dict[str, str]:
    """Say which device leads to the other machines: the engine's bridges look as good as it."""
    device = way_out()
    return {"GLOO_SOCKET_IFNAME": device, "NCCL_SOCKET_IFNAME": device} if device else {}


def _labels(plan: Plan) -> dict[str, str]:
    labels = {
        LABEL_PLANE: plan.place.control_plane,
        LABEL_INSTANCE: plan.place.instance,
        LABEL_RUN: plan.work.run_id,
    }
    if plan.gpu_uuids:
        labels[LABEL_GPUS] = ",".join(plan.gpu_uuids)
    return labels


def _memory_bytes(plan: Plan) -> int:
    """Return what the container may use: of a lent machine never all that it has."""
    most = max(plan.machine_memory_bytes - HOST_RESERVE_BYTES, LEAST_MEMORY_BYTES)
    asked = plan.work.memory_bytes or most
    return min(asked, most) if plan.place.lent else asked


def _host_config(engine: APIClient, plan: Plan, gpus: Mapping[str, Any]) -> dict[str, Any]:
    from docker.types import LogConfig, Ulimit

    work, memory = plan.work, _memory_bytes(plan)
    return engine.create_host_config(
        mem_limit=memory,
        memswap_limit=memory,  # the same: no swap
        nano_cpus=work.cpu * 10**9 if work.cpu else None,
        pids_limit=work.pids_limit,
        shm_size=min(work.shm_bytes, memory),
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        init=True,  # reaps what the command leaves behind, and takes its signals
        log_config=LogConfig(type="none"),  # read while it runs: nothing fills the disk
        network_mode=plan.network.name if plan.network else HOST,
        extra_hosts=dict.fromkeys(NAMES, "127.0.0.1"),
        ulimits=[Ulimit(name="core", soft=0, hard=0)],
        mounts=_mounts(plan),
        **gpus,
    )


def _mounts(plan: Plan) -> list[Any]:
    """Return what the container sees of this machine's disk: data, and the folder that is saved.

    As mounts, not as binds: a folder that is not there is an error and never made.
    """
    from docker.types import Mount

    mounts = [
        Mount(one.dataset.mount, str(one.folder), type="bind", read_only=True) for one in plan.data
    ]
    if plan.work.checkpoint is not None:
        target = f"{WORKSPACE}/{checkpoint_path(plan.work)}"
        source = str(plan.place.checkpoint_folder.absolute())
        mounts.append(Mount(target, source, type="bind"))
    return mounts


def writable_folders(work: Work) -> bytes:
    """Return an archive with what must be there and writable for whoever the user is.

    A checkpoint folder of the spec is a mount: it is made so on this machine's side.
    """
    own = [] if work.checkpoint is not None else [f"{WORKSPACE}/{checkpoint_path(work)}".strip("/")]
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path in (f"{WORKSPACE}/{OUTPUTS_FOLDER}".strip("/"), *own, CONTROL_FOLDER):
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(folder)
    return memory.getvalue()
