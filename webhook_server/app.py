"""Compose the server: the only place that builds its parts, the only one that reads the clock."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import secrets
import signal
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from io import RawIOBase
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from cynthus.errors import UserError
from webhook_server import embedded, loops, traces
from webhook_server.auth.server_key import server_key
from webhook_server.bell import Bell
from webhook_server.garbage import settle
from webhook_server.logs import replica, set_up
from webhook_server.loops import Running, gauges
from webhook_server.metrics import METERS, STARTED_AT, Sample
from webhook_server.planning import open_planner
from webhook_server.providers.provider import Provider
from webhook_server.renewal import Ending, Renewal
from webhook_server.routes.access import host_of
from webhook_server.routes.answers import Door
from webhook_server.routes.blobs import PREFIX as BLOBS
from webhook_server.routes.blobs import blob_door
from webhook_server.routes.counters import Counters
from webhook_server.routes.front import Busy, Front, Later
from webhook_server.routes.heartbeats import heartbeat_door
from webhook_server.routes.masking import Masking
from webhook_server.routes.parts import JobGate, MachineGate, Parts
from webhook_server.routes.probes import Gauges, healthz, metrics_door, readyz
from webhook_server.routes.run_list import list_door
from webhook_server.routes.run_requests import prepare
from webhook_server.routes.slow_clients import PatientProtocol
from webhook_server.routes.stream import PATH as STREAM
from webhook_server.routes.stream import Readers, stream_door
from webhook_server.settings import Settings
from webhook_server.stores.app_store import AppStore, with_app
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.blob_store import open_blob_store
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.file_blobs import FileBlobs
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_secrets import RunSecrets
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.secret_protocol import SecretStore
from webhook_server.stores.secret_store import open_secret_store
from webhook_server.stores.session_store import SessionStore
from webhook_server.stores.shared_clock import SharedClock
from webhook_server.stores.warm_store import WarmStore
from webhook_server.workers import Loop, run_loops

if TYPE_CHECKING:
    from webhook_server.auth.signing import Signer
    from webhook_server.doctor.outside import Outside
    from webhook_server.github_side import GithubSide
    from webhook_server.stores.data_listing import ObjectSigner

log = logging.getLogger(__name__)

DRAIN_S = 15  # of the 30 s that supervisors grant, while the loops end as well
# What is waited for after a signal ends by itself before this, but for a database or a service that
# is silent: what it leaves undone is repeated, as after a crash.
END_S = 27.0
_TICK_S = 1.0  # as often as the header Date changes
KEEP_ALIVE_S = 30  # agents beat every 10 s: their connection stays
Notice = Callable[[], None]
_ID_LETTERS = string.ascii_lowercase + string.digits


def clock() -> datetime:
    """Return now."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


def new_id() -> str:
    """Return a run's id: 12 letters and digits, 61 bits, fit for names of instances."""
    first = secrets.choice(string.ascii_lowercase)
    return first + "".join(secrets.choice(_ID_LETTERS) for _ in range(11))


# ── what the server stands on ───────────────────────────────────────────────────────────────────


def listen(settings: Settings) -> socket.socket:
    """Take the address. Raises: UserError when somebody else has it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's delay off only for sockets that name their protocol: without it every
    # answer waits 40 ms for the client's acknowledgement of its head.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((settings.host, settings.port))
    except OSError as error:
        taken.close()
        raise UserError(
            f"CYNTHUS_PORT: should be free, found {settings.host}:{settings.port} taken"
            f" ({error.strerror}). Choose another port, or 0 for any."
        ) from error
    return taken


def base_url(settings: Settings, listening: socket.socket | None) -> str:
    """Return the address that others are told."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    port = listening.getsockname()[1] if listening else settings.port
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host  # noqa: S104 - not bound here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What doors and loops share."""

    settings: Settings
    key: bytes
    base_url: str
    database: Database
    blobs: BlobStore
    secrets: SecretStore
    bell: Bell
    app: AppStore
    remarks: tuple[str, ...] = ()  # what the operator should know of the App that set-up made
    signer: Signer | None = None  # None: nothing is signed


@contextmanager
def ground(
    settings: Settings, listening: socket.socket | None, *, alone: bool = False
) -> Iterator[Ground]:
    """Open the state folder, the stores and the database, migrated; close them at the end.

    The settings are completed with the App that set-up made, unless the server is `alone`.
    """
    state_dir = settings.state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = server_key(settings.server_key, state_dir)
    signer = _signer(settings)  # a key that cannot be used ends the start
    blobs = open_blob_store(settings, state_dir)
    kept_secrets = open_secret_store(settings, state_dir, key)
    url = settings.database_url or f"sqlite:///{state_dir / 'cynthus.db'}"
    database = Database(url, now=clock)
    METERS.stopwatch = time.monotonic
    try:
        database.migrate()
        app = AppStore(database, kept_secrets)
        complete, remarks = (settings, ()) if alone else _completed(settings, app)
        bell = Bell()
        with _shared_time(database, bell):
            yield Ground(
                settings=complete,
                key=key,
                base_url=base_url(settings, listening),
                database=database,
                blobs=blobs,
                secrets=kept_secrets,
                bell=bell,
                app=app,
                remarks=remarks,
                signer=signer,
            )
    finally:
        METERS.stopwatch = None
        database.close()
        blobs.close()
        kept_secrets.close()


@contextmanager
def _shared_time(database: Database, bell: Bell) -> Iterator[None]:
    """Let everything live by the time that all replicas share, where there may be several."""
    if not database.may_be_shared:
        yield
        return
    shared = SharedClock(clock, time.monotonic)
    shared.begin(database)
    database.now = shared
    stopping, loop = threading.Event(), Loop("clock", lambda: shared.step(database), "clock")
    keeper = threading.Thread(target=run_loops, args=([loop], bell, stopping), name="clock")
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()


def _completed(settings: Settings, app: AppStore) -> tuple[Settings, tuple[str, ...]]:
    stored = app.get()
    if stored is None:
        return settings, ()
    keys = None if settings.github_app_id else app.keys(stored)
    return with_app(settings, stored, keys)


def _signer(settings: Settings) -> Signer | None:
    if not settings.signing_key:
        return None
    from webhook_server.auth.signing import signer  # late: cryptography is large

    return signer(settings.signing_key)


def open_parts(
    found: Ground,
    *,
    jobs: JobGate | None,
    alive: Callable[[], tuple[str, ...]],
    providers: dict[str, Provider] | None = None,
) -> Parts:
    """Return what the doors are handed."""
    settings, database = found.settings, found.database
    if isinstance(found.blobs, FileBlobs) and not database_is_shared(settings):
        found.blobs.sweep()
    hosts = {host_of(found.base_url.partition("://")[2]), settings.host.lower()}
    return Parts(
        settings=settings,
        server_key=found.key,
        base_url=found.base_url,
        own_hosts=frozenset(host for host in hosts if host and host not in {"0.0.0.0", "::"}),  # noqa: S104 - not bound here
        now=database.now,
        new_id=new_id,
        bell=found.bell,
        counters=Counters(),
        database=database,
        runs=RunStore(database),
        instances=InstanceStore(database),
        events=EventStore(database),
        publications=PublicationStore(database),
        sessions=SessionStore(database, now=database.now),
        blobs=found.blobs,
        secrets=found.secrets,
        run_secrets=RunSecrets(database, found.secrets),
        app=found.app,
        app_remarks=found.remarks,
        warm=WarmStore(database),
        providers=providers or {},
        jobs=jobs,
        machines=machine_gate(settings, found.base_url, providers or {}),
        alive=alive,
        public_key=found.signer.public_pem if found.signer else None,
    )


def machine_gate(
    settings: Settings, base_url: str, providers: dict[str, Provider]
) -> MachineGate | None:
    """Return the gate for instances of the cloud that is configured, if one is."""
    if not settings.gcp_project:
        return None
    from webhook_server.auth.fetch import fetch
    from webhook_server.auth.google_identity import GoogleIdentity
    from webhook_server.routes.machines import GoogleMachines

    identity = GoogleIdentity(
        project=settings.gcp_project,
        audience=base_url,
        certs_url=settings.gcp_certs_url,
        fetch=fetch,
        now=clock,
    )
    return GoogleMachines(identity, providers.get(GoogleMachines.provider_name))


def database_is_shared(settings: Settings) -> bool:
    """Return whether other servers may stand on the same state."""
    return settings.database_url.startswith("postgresql")


# ── doors ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The application, and what has to be told when the server stops."""

    front: Front
    readers: Readers
    pages: Later


def open_doors(
    parts: Parts, *, github: GithubSide | None = None, more_gauges: Gauges = tuple
) -> Doors:
    """Return the whole ASGI application."""
    readers = Readers(parts.bell)
    masking = Masking(instances=parts.instances, runs=parts.runs, secrets=parts.run_secrets)
    pages = Later(lambda: _pages(parts, masking, github))

    def gauges() -> Iterator[Sample]:
        yield "cynthus_stream_readers", {}, readers.count()
        yield from more_gauges()

    busy = (
        *([_at("webhook", "/webhooks/github", github.events)] if github else []),
        _at("heartbeat", "/agent/v1/heartbeat", heartbeat_door(parts, masking)),
        Busy("runs", _is_list, list_door(parts)),
        Busy("stream", lambda _, path: STREAM.match(path) is not None, stream_door(parts, readers)),
        Busy("blobs", lambda _, path: path.startswith(BLOBS), blob_door(parts)),
        _at("healthz", "/healthz", healthz),
        _at("readyz", "/readyz", readyz(parts)),
        _at("metrics", "/metrics", metrics_door(parts, gauges)),
    )
    return Doors(front=Front(parts, busy, pages), readers=readers, pages=pages)


def _at(name: str, address: str, door: Door) -> Busy:
    return Busy(name, lambda _, path: path == address, door)


def _is_list(method: str, path: str) -> bool:
    return path == "/api/v1/runs" and method == "GET"


def _pages(parts: Parts, masking: Masking, github: GithubSide | None) -> Door:
    # Imported late: FastAPI takes longer to import than all the rest, and nobody waits for it yet.
    from webhook_server.data_keeper import open_keeper
    from webhook_server.routes.agent_api import AgentProgram, agent_router
    from webhook_server.routes.agent_data import data_router
    from webhook_server.routes.client_api import client_router
    from webhook_server.routes.dashboard import dashboard_router, refusal_page
    from webhook_server.routes.data_api import kept_router
    from webhook_server.routes.doctor_api import doctor_router
    from webhook_server.routes.image_api import image_router
    from webhook_server.routes.money_api import money_router
    from webhook_server.routes.pages import build_pages
    from webhook_server.routes.setup_pages import setup_router
    from webhook_server.routes.signing_key import signing_router
    from webhook_server.routes.trail_pages import trail_router

    keeper = open_keeper(parts.settings, parts.database, parts.blobs, parts.now)
    program = AgentProgram(_agent_builder(), parts.settings.state_dir.resolve())
    routers = (
        agent_router(parts, masking, program),
        data_router(parts, _object_signer(parts.settings)),
        client_router(parts),
        image_router(parts),
        signing_router(parts),
        money_router(parts),
        dashboard_router(parts),
        doctor_router(parts, _outside(parts, github)),
        trail_router(parts),
        kept_router(parts, keeper, time.monotonic),
        setup_router(parts, github.reader if github else None),
    )
    return build_pages(parts, routers, people=refusal_page())


def _object_signer(settings: Settings) -> Callable[[], ObjectSigner]:
    """Return what opens the signer of addresses in users' buckets, once, when it is first asked."""

    @functools.cache
    def opened() -> ObjectSigner:
        # Imported late: Google's libraries are large, and most servers need none.
        from webhook_server.stores.gcs_objects import GcsObjects

        return GcsObjects(settings)

    return opened


def _outside(parts: Parts, github: GithubSide | None) -> Outside | None:
    """Return what `cynthus doctor` asks GitHub through."""
    from webhook_server.doctor.outside import Outside

    if github is None:
        return None
    return Outside(
        settings=parts.settings,
        base_url=parts.base_url,
        reader=github.reader,
        arrived_since=github.arrived_since,
        now=parts.now,
        wait=time.sleep,
    )


def _agent_builder() -> Callable[[Path], None] | None:
    """Return what builds the agent's program, or None where the agent is not installed."""
    name = "runner_images.agent.package"
    try:
        found = find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None:
        return None
    build: Callable[[Path], None] = import_module(name).build
    return build


# ── life ────────────────────────────────────────────────────────────────────────────────────────


class _Uvicorn(uvicorn.Server):
    """uvicorn, telling when it serves and when it is asked to stop: it offers methods for both.

    Its own main loop looks ten times a second whether it should exit: most of what an idle server
    does. Ours is woken.
    """

    def __init__(
        self, config: uvicorn.Config, *, started: Notice, stopping: Notice, signalled: Notice
    ) -> None:
        super().__init__(config)
        self._started, self._stopping, self._signalled = started, stopping, signalled
        self._wake: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Return when it should exit; once a second the answers' header Date is set."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        while not await self.on_tick(0):  # 0: the ticks at which it sets the header
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), _TICK_S)
        self._wake = lambda: None  # a second signal may find the event loop closed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, then say so."""
        await super().startup(sockets)
        if self.started:
            self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let long answers end, since uvicorn waits for them."""
        self._signalled()
        self._stopping()
        super().handle_exit(sig, frame)
        self._wake()

    def stop(self) -> None:
        """Stop as on SIGTERM, from another thread."""
        self._stopping()
        self.should_exit = True
        self._wake()


def http_server(
    doors: Doors,
    *,
    started: Notice,
    stopping: Notice = lambda: None,
    signalled: Notice = lambda: None,
) -> _Uvicorn:
    """Return the HTTP server, not yet serving."""
    config = uvicorn.Config(
        doors.front,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # Who stands at the door is decided by the connection itself, never by a header.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        backlog=2048,
    )

    def stop() -> None:
        doors.readers.stop()
        stopping()

    return _Uvicorn(config, started=started, stopping=stop, signalled=signalled)


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
    return _completed(found.settings, found.app)[0].github_configured


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
            planner=open_planner(found.settings, found.database, providers, found.database.now),
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
        blobs=found.blobs,
        github=github,
        sign=found.signer.sign if found.signer else None,
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
