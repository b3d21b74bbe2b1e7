"""Give a container its network: the shared one, a gang's own, or a lent machine's.

Whichever it is, the metadata server cannot be reached from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner_images.agent.metadata_guard import (
    close_metadata,
    close_metadata_to_users,
    metadata_answers,
    open_metadata,
)
from runner_images.agent.workload import CannotStart

if TYPE_CHECKING:
    from docker import APIClient

LABEL_PLANE = "cynthus.control_plane"
FILTER_LIMIT_S = 10  # the program waits for others that change the rules; each takes milliseconds
_GANG = "cynthus-gang-"
OLD = "1h"  # a gang's network without containers for so long is what a dead agent left


@dataclass(frozen=True, kw_only=True)
class Network:
    """One bridge network of the engine."""

    name: str
    bridge: str  # the kernel's name, at most 15 characters
    together: bool  # its containers reach one another


SHARED = Network(name="cynthus", bridge="cynthus0", together=False)  # runs are strangers
# On a lent machine a gang uses the machine's own network: NCCL and gloo agree on ports as they
# go, for which a bridge would need forwarding that nobody can know beforehand, and each packet of
# a training step would pass the host's address translation.
HOST = "host"


def gang_network(control_plane: str, run_id: str, attempt: int) -> Network:
    """Name the network of one gang, alike by all its agents on one machine."""
    digest = hashlib.sha256(f"{control_plane}/{run_id}/{attempt}".encode()).hexdigest()[:12]
    return Network(name=f"{_GANG}{digest}", bridge=_bridge(digest), together=True)


def _bridge(digest: str) -> str:
    return f"cyn{digest}"


def have_network(engine: APIClient, network: Network, control_plane: str) -> str | None:
    """Make the network, unless another agent did; return a notice. Raises CannotStart."""
    from docker.errors import APIError

    if not _exists(engine, network):
        try:
            engine.create_network(
                network.name,
                driver="bridge",
                check_duplicate=True,
                options={
                    "com.docker.network.bridge.name": network.bridge,
                    "com.docker.network.bridge.enable_icc": str(network.together).lower(),
                    "com.docker.network.driver.mtu": str(_mtu()),
                },
                labels={"cynthus": "gang", LABEL_PLANE: control_plane}
                if network.together
                else {"cynthus": "network"},
            )
        except APIError:
            if not _exists(engine, network):  # else another agent was faster
                raise
    if network.together:
        _keep_addresses(network.bridge)
    return _guarded(lambda: close_metadata(network.bridge))


def _keep_addresses(bridge: str) -> None:
    """Let members of a gang see one another's own addresses, whatever rules lie on the machine.

    Docker leaves its rules behind when its data is wiped; such a rule of a network that is no more
    ("all from 172.18.0.0/16 that does not leave by its bridge gets the host's address") takes the
    packets of the next network with these addresses, and who answers to the address that it sees
    reaches the host. Without rights or the program nothing is changed: then most machines still
    do it right.
    """
    if _translation("-C", bridge) != 0:
        _translation("-I", bridge)


def _translation(what: str, bridge: str) -> int:
    rule = ["POSTROUTING", "-o", bridge, "-j", "ACCEPT"]
    try:
        return subprocess.run(
            ["iptables", "-w", "-t", "nat", what, *rule],
            capture_output=True,
            timeout=FILTER_LIMIT_S,
            check=False,
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return -1


def guard_host() -> str | None:
    """Close the metadata server to everybody but root; return a notice. Raises CannotStart.

    A workload in the machine's own network never runs as root: then a bridge's rule is no use.
    """
    return _guarded(close_metadata_to_users)


def _guarded(close: Callable[[], str | None]) -> str | None:
    fault = close()
    if fault is None:
        return None
    if metadata_answers():
        text = f"network: the metadata address cannot be closed to the container: {fault}"
        raise CannotStart(f"{text}. Run the agent as root.", infrastructure=True)
    return f"the metadata address is not closed to the container ({fault}); none answers here"


def _exists(engine: APIClient, network: Network) -> bool:
    return any(found["Name"] == network.name for found in engine.networks(names=[network.name]))


def drop_network(engine: APIClient, network: Network, control_plane: str) -> None:
    """Remove a gang's network once its last container is gone; what is in use stays."""
    from docker.errors import APIError

    try:
        engine.remove_network(network.name)
    except APIError:  # others still use it, or have removed it: the last one does it
        return
    _forget(network.bridge)
    with contextlib.suppress(APIError):
        drop_unused(engine, control_plane)


def drop_unused(engine: APIClient, control_plane: str, before: str = OLD) -> None:
    """Remove what dead agents left: gangs' networks without containers, with their rules.

    `before`: a moment, or how long ago, as Docker's filter `until` reads it. Raises what the
    engine raises; safe to repeat.
    """
    unused = {"label": [f"{LABEL_PLANE}={control_plane}", "cynthus=gang"], "until": [before]}
    gone = engine.prune_networks(unused)  # type: ignore[no-untyped-call]
    for name in gone.get("NetworksDeleted") or ():
        _forget(_bridge(name.removeprefix(_GANG)))


def _forget(bridge: str) -> None:
    """Take back the rules of a bridge that is no more. Safe to repeat."""
    open_metadata(bridge)
    while _translation("-D", bridge) == 0:  # agents that looked at the same moment all added it
        pass


def address_in(engine: APIClient, container: str, network: Network) -> str | None:
    """Return the address of a running container in the network; None: it does not run."""
    from docker.errors import NotFound

    try:
        found = engine.inspect_container(container)
    except NotFound:
        return None
    ends = found.get("NetworkSettings", {}).get("Networks", {})
    return str(ends.get(network.name, {}).get("IPAddress") or "") or None


def way_out() -> str | None:
    """Return the network device of the default route."""
    try:
        routes = Path("/proc/net/route").read_text("ascii").splitlines()[1:]
        return next(line.split()[0] for line in routes if line.split()[1] == "00000000")
    except (OSError, StopIteration, ValueError):
        return None


def _mtu() -> int:
    """Return the packet size of the way out: 1460 on Google Cloud, where Docker would take 1500.

    https://cloud.google.com/vpc/docs/mtu
    """
    try:
        return int(Path(f"/sys/class/net/{way_out()}/mtu").read_text("ascii"))
    except (OSError, ValueError):
        return 1500
