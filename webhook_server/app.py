"""Run the server: open its ground, its GitHub side, its loops, its doors; end them in order."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from cynthus.errors import UserError
from webhook_server import embedded, loops, traces
from webhook_server.doors import Doors, open_doors, open_parts
from webhook_server.garbage import settle
from webhook_server.ground import (
    Ground,
    clock,
    completed,
    database_is_shared,
    ground,
    listen,
    new_id,
)
from webhook_server.http_server import http_server
from webhook_server.logs import replica, set_up
from webhook_server.loops import Running, gauges
from webhook_server.metrics import METERS, STARTED_AT
from webhook_server.planning import open_planner
from webhook_server.providers.provider import Provider
from webhook_server.renewal import Ending, Renewal
from webhook_server.routes.run_requests import prepare
from webhook_server.settings import Settings

if TYPE_CHECKING:
    from webhook_server.github_side import GithubSide

log = logging.getLogger(__name__)

# What is waited for after a signal ends by itself before this, but for a database or a service that
# is silent: what it leaves undone is repeated, as after a crash.
END_S = 27.0


def serve(
    settings: Settings,
    role: str,
    line: RawIOBase | None = None,
    *,
    taken: socket.socket | None = None,
) -> Ending:
    """Run until asked to stop, or until `line` closes: then no run is left behind.

    `taken` is a socket that listens already. Raises: UserError for settings that cannot be used.
    """
    if role != "all" and not database_is_shared(settings):
        raise UserError(
            f"--role: should be all with SQLite, found {role}. Set CYNTHUS_DATABASE_URL to"
            " PostgreSQL to run doors and loops apart."
        )
    listening = (taken or listen(settings)) if role != "worker" else None
    with ground(settings, listening, alone=line is not None) as found:
        set_up(found.settings, found.key)
        METERS.set(STARTED_AT, clock().timestamp())
        _trace(found.settings)
        for remark in found.remarks:
            log.warning("settings doubtful remark=%s", remark)
        # First of all, since whatever answers questions about a run's price asks them.
        providers = {} if role == "api" else loops.open_providers(_ground_of_loops(found, None))
        github = _open_github(found, providers)
        renewal = Renewal(lambda: _app_is_there(found), found.bell)
        # uvicorn closes the socket that it is given: what may be needed again is another.
        kept = listening.dup() if listening and _may_begin_anew(found, line) else None
        with _loops(found, github, providers, role) as running:
            if listening is None:
                log.info("worker started")
                _tell_ready(settings, "")
                _wait_for_signal(renewal if _may_begin_anew(found, line) else None)
            else:
                _serve_doors(found, github, running, (listening, line, renewal if kept else None))
        renewal.end()
        if line is not None and running is not None:
            embedded.sweep_away(running.providers)
        log.info("server stopped url=%s", found.base_url)
        traces.uninstall()
    if renewal.wanted:  # a pass that hangs ends with the program's execution
        return Ending(code=0, anew=True, listening=kept)
    if running is not None and not running.drained:
        # The interpreter would wait for the pass that hangs; what it does is repeated anyway.
        logging.shutdown()
        os._exit(0)
    return Ending(code=0)


def _trace(settings: Settings) -> None:
    """Tell a collector what happens, if one is named. Raises: UserError without the library."""
    if not settings.otel_endpoint:
        return
    try:
        from webhook_server.otel import OtlpExporter  # late: few servers have a collector
    except ModuleNotFoundError as error:
        raise UserError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra `otel`, which is not installed."
            " Install cynthus[otel], or unset it."
        ) from error
    traces.install(OtlpExporter(settings.otel_endpoint, replica()))


def _may_begin_anew(found: Ground, line: RawIOBase | None) -> bool:
    """Say whether set-up could make this server another: it serves no App, nor is it embedded."""
    return line is None and not found.settings.github_configured


def _app_is_there(found: Ground) -> bool:
    """Say whether there is an App by now that this server could serve."""
    return completed(found.settings, found.app)[0].github_configured


def _open_github(found: Ground, providers: dict[str, Provider]) -> GithubSide | None:
    if not found.settings.github_configured:
        return None
    # Imported late: GitHub's library is large, and many servers have no GitHub.
    from webhook_server import github_side

    return github_side.open_github(
        github_side.Ground(
            settings=found.settings,
            database=found.database,
            bell=found.bell,
            planner=open_planner(
                found.settings, found.database, providers, found.database.now, found.pins
            ),
            url_of=lambda run_id: f"{found.base_url}/runs/{run_id}",
            now=found.database.now,
            new_id=new_id,
        )
    )


def _ground_of_loops(found: Ground, github: GithubSide | None) -> loops.Ground:
    return loops.Ground(
        settings=found.settings,
        key=found.key,
        base_url=found.base_url,
        database=found.database,
        bell=found.bell,
        let_door_go_first=found.asking.wait_out,
        blobs=found.blobs,
        github=github,
        sign=found.signer.sign if found.signer else None,
        data=found.pins.of_run,
        now=found.database.now,
        new_id=new_id,
    )


@contextmanager
def _loops(
    found: Ground, github: GithubSide | None, providers: dict[str, Provider], role: str
) -> Iterator[Running | None]:
    if role == "api":
        yield None
        return
    running = loops.open_loops(_ground_of_loops(found, github), providers)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def _serve_doors(
    found: Ground,
    github: GithubSide | None,
    running: Running | None,
    ends: tuple[socket.socket, RawIOBase | None, Renewal | None],
) -> None:
    settings, (listening, line, renewal) = found.settings, ends
    parts = open_parts(
        found,
        jobs=github.jobs if github else None,
        alive=running.stopped if running else tuple,
        providers=running.providers if running else {},
    )
    doors = open_doors(parts, github=github, more_gauges=lambda: gauges(running, github))

    def started() -> None:
        log.info("server started url=%s", found.base_url)
        _tell_ready(settings, found.base_url)
        threading.Thread(
            target=lambda: _prepare(doors, embedded=line is not None), name="pages", daemon=True
        ).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn hands the signal on when it is done; what follows must still be done.
        signal.signal(number, lambda *_: renewal.give_up() if renewal else None)
    stopping = running.ask_to_stop if running else lambda: None
    signalled = _end_in_time if line is None else lambda: None  # embedded, it first ends its runs
    server = http_server(doors, started=started, stopping=stopping, signalled=signalled)
    if line is not None:
        charge = embedded.Charge(runs=parts.runs, bell=parts.bell, now=parts.now)
        embedded.live_by(line, charge, server.stop)
    if renewal is not None:
        renewal.watch(server.stop)
    server.run(sockets=[listening])


def _prepare(doors: Doors, *, embedded: bool) -> None:
    doors.pages.get()
    settle()
    if embedded:  # its one request comes once the image is built: there is time until then
        prepare()


def _end_in_time() -> None:
    """End the program before its supervisor kills it, whatever it still waits for."""

    def end() -> None:
        log.warning("stopped without waiting any longer, another server repeats what is left")
        logging.shutdown()
        os._exit(0)

    guard = threading.Timer(END_S, end)
    guard.daemon = True  # else the program would wait for it
    guard.start()


def _tell_ready(settings: Settings, url: str) -> None:
    if not settings.ready_file:
        return
    path = Path(settings.ready_file)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}), "utf-8")
    temporary.replace(path)


def _wait_for_signal(renewal: Renewal | None) -> None:
    stopping = threading.Event()

    def stop(*_: object) -> None:
        if renewal is not None:
            renewal.give_up()
        stopping.set()
        _end_in_time()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if renewal is not None:
        renewal.watch(stopping.set)
    stopping.wait()
