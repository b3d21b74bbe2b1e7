"""The simulated GitHub as one program on one loopback port.

    python -m simulators github --port N [--state DIR]

One origin serves it all: REST at `/api` (uploads at `/api/uploads/repos/…`), git at
`/OWNER/REPO.git`, the OIDC issuer at `/oidc`, pages for people at `/`, and the control endpoints
at `/_sim/…`. State lies in DIR and survives `kill -9`.

Control endpoints (JSON in, JSON out; details in docs/simulators.md and at each function of
`github_control.py`, `github_control_days.py`, `github_control_pulls.py` and `github_jobs.py`):

    POST   /_sim/app                      register a GitHub App: id, slug, client_id, pem
    POST   /_sim/owners, /_sim/users      accounts; a user comes with a token
    POST   /_sim/repos                    PATCH renames, transfers, sets flags; DELETE
    PUT    /_sim/repos/O/R/collaborators/U
    POST   /_sim/installations            PATCH suspends, adds, removes; DELETE uninstalls
    POST   /_sim/pulls, /_sim/issues, /_sim/comments
    POST   /_sim/check-runs/ID/press      a person's click on a button or on Re-run
    POST   /_sim/oidc, /_sim/oidc/rotate  forge a token; new signing key
    GET    /_sim/deliveries (/count), /_sim/requests, /_sim/events
    POST   /_sim/workflow_jobs            PATCH reports progress
    POST   /_sim/faults                   GET lists, DELETE clears
    POST   /_sim/clock, /_sim/limits, /_sim/settings
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from simulators import (
    github_control,
    github_control_days,
    github_control_pulls,
    github_events,
    github_jobs,
    github_rest_apps,
    github_rest_assets,
    github_rest_checks,
    github_rest_contents,
    github_rest_misc,
    github_rest_packages,
    github_rest_pulls,
    github_rest_releases,
    github_rest_repos,
    github_smart_http,
)
from simulators.github_gate import Gate, rate_limit
from simulators.github_http import Answer, Call, Route
from simulators.github_limits import Limits
from simulators.github_pages import Pages
from simulators.github_serve import Api, Plain
from simulators.github_state import Store
from simulators.github_webhooks import Courier
from simulators.github_world import World

LONGEST_WAIT_S = 60.0  # a long poll for events; the client asks again
_POLL_S = 0.1


def rest_routes(limits: Limits) -> tuple[Route, ...]:
    """Return every REST operation, in the order they are tried."""

    def limit(call: Call) -> Answer:
        return rate_limit(call, limits)

    return (
        *github_rest_apps.ROUTES,
        *github_rest_checks.ROUTES,
        *github_rest_repos.ROUTES,
        *github_rest_contents.ROUTES,
        *github_rest_pulls.ROUTES,
        *github_rest_releases.ROUTES,
        *github_rest_assets.ROUTES,
        *github_rest_misc.ROUTES,
        *github_rest_packages.ROUTES,
        Route(method="GET", template="/rate_limit", handler=limit),
        *github_rest_repos.LAST_ROUTES,
    )


class Simulator:
    """The ASGI program: one origin, its parts told apart by path."""

    def __init__(self, world: World, exchanges: Path | None = None) -> None:
        limits = Limits(world)
        gate = Gate(world, limits, rest_routes(limits))
        gate.exchanges = exchanges
        self._world = world
        self._git = github_smart_http.SmartHttp(world)
        control = (
            *github_control.ROUTES,
            *github_control_days.ROUTES,
            *github_control_pulls.ROUTES,
            *github_jobs.CONTROL_ROUTES,
            *github_rest_packages.CONTROL_ROUTES,
        )
        self._parts: tuple[tuple[str, ASGIApp], ...] = (
            ("/api", Api(world, gate, limits)),
            ("/oidc", Plain(world, "/oidc", github_jobs.OIDC_ROUTES)),
            ("/_sim", Plain(world, "/_sim", control)),
        )
        self._pages = Pages(world)
        self.ending: Callable[[], bool] = lambda: False  # asked by those that wait for events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/_sim/events" and scope["method"] == "GET":
            await self._wait_for_events(Request(scope, receive))
        for start, part in self._parts:
            if path == start or path.startswith(f"{start}/"):
                await part(scope, receive, send)
                return
        if github_smart_http.PATH.match(path):
            await self._git(scope, receive, send)
            return
        await self._pages(scope, receive, send)

    async def _wait_for_events(self, request: Request) -> None:
        after = int(request.query_params.get("after", 0))
        wait = min(float(request.query_params.get("wait", 0)), LONGEST_WAIT_S)
        until = time.monotonic() + wait
        while time.monotonic() < until and not self.ending():
            with self._world.store.lock:
                if github_events.since(self._world, after):
                    return
            await asyncio.sleep(_POLL_S)


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m simulators github")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--state", type=Path, default=None, metavar="DIR")
    parser.add_argument(
        "--exchanges", type=Path, metavar="FILE", help="append each REST exchange, one JSON a line"
    )
    args = parser.parse_args(argv)
    folder = args.state or Path(tempfile.mkdtemp(prefix="github-sim-"))
    folder.mkdir(parents=True, exist_ok=True)
    _serve(folder, args.port, args.exchanges)
    return 0


def _serve(folder: Path, port: int, exchanges: Path | None) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    store = Store(folder.resolve())
    store.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    world = World(store)
    github_smart_http.catch_up(world)
    courier = Courier(world)
    courier.start()
    program = Simulator(world, exchanges)
    config = uvicorn.Config(
        program,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    program.ending = lambda: server.should_exit
    try:
        asyncio.run(_announced(server, listener, folder, store.base_url))
    finally:
        courier.stop()
        with store.lock:
            store.close()


async def _announced(
    server: uvicorn.Server, listener: socket.socket, folder: Path, url: str
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if not serving.done():
        ready = folder / "ready.json"
        partial = folder / "ready.json.partial"
        partial.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        partial.replace(ready)
        print(f"github simulator at {url}", flush=True)  # noqa: T201 - the ready line is the interface
    await serving
