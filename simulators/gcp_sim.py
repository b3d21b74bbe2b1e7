"""The simulated Google Cloud as one program on one loopback port.

    python -m simulators gcp --port N [--state DIR] [--machines none|processes|namespaces]

One origin serves all APIs, told apart by path. State lies in DIR and survives `kill -9`. The
control endpoints and the fault switches are described in docs/gcp_simulator.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from simulators.gcp_http import Route
from simulators.gcp_machines import Machines, NoMachines, PlayError
from simulators.gcp_serve import Server
from simulators.gcp_world import World

# Each has `routes(world) -> list[Route]`, and is loaded when the simulator starts.
APIS = (
    "simulators.gcp_auth",
    "simulators.gcp_billing",
    "simulators.gcp_compute_catalogue",
    "simulators.gcp_operations",
    "simulators.gcp_instances",
    "simulators.gcp_disks",
    "simulators.gcp_control",
    "simulators.gcp_iam",
    "simulators.gcp_identity",
    "simulators.gcp_secrets",
    "simulators.gcp_storage",
    "simulators.gcp_sts",
)
_MACHINES = {
    "processes": ("simulators.gcp_processes", "Processes"),
    "namespaces": ("simulators.gcp_namespaces", "Namespaces"),
}


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    args = _arguments(argv)
    folder = args.state or Path(tempfile.mkdtemp(prefix="gcp-sim-"))
    world = World(folder.resolve(), project=args.project)
    try:
        world.machines = _machines(args.machines, folder.resolve(), args.reach)
    except PlayError as error:
        print(f"gcp simulator: {error}", file=sys.stderr)  # noqa: T201 - said to whoever started it
        return 1
    routes = all_routes(world)
    with Server(world, routes, port=args.port, exchanges=args.exchanges) as server:
        world.url = server.url
        world.start()
        for name in (signal.SIGTERM, signal.SIGINT):
            # `shutdown` waits for the serving thread, which is this one: ask from another.
            signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
        _announce(server.url, args.ready_file or folder / "ready.json")
        server.serve_forever(poll_interval=0.05)
    world.close()
    return 0


def all_routes(world: World) -> list[Route]:
    """Return the routes of every API."""
    return [route for api in APIS for route in importlib.import_module(api).routes(world)]


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators gcp", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--state", type=Path, default=None, metavar="DIR")
    parser.add_argument("--project", default="cynthus-sim", metavar="ID")
    parser.add_argument("--machines", choices=["none", *_MACHINES], default="none")
    parser.add_argument(
        "--reach",
        type=_ports,
        default=(),
        metavar="PORT,…",
        help="loopback ports of this machine that machines see at the same address",
    )
    parser.add_argument("--ready-file", type=Path, default=None, metavar="FILE")
    parser.add_argument(
        "--exchanges", type=Path, metavar="FILE", help="append each API exchange, one JSON a line"
    )
    return parser.parse_args(argv)


def _ports(text: str) -> tuple[int, ...]:
    return tuple(int(port) for port in text.split(",") if port)


def _machines(kind: str, folder: Path, reach: Sequence[int]) -> Machines:
    if kind == "none":
        return NoMachines()
    module, name = _MACHINES[kind]
    made: Machines = getattr(importlib.import_module(module), name)(folder / "machines", reach)
    return made


def _announce(url: str, ready: Path) -> None:
    partial = ready.with_name(ready.name + ".partial")
    partial.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    partial.replace(ready)
    print(f"gcp simulator at {url}", flush=True)  # noqa: T201 - the ready line is the interface
