"""Put the doors together: the whole ASGI application, with the parts that it is handed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from webhook_server.ground import Ground, clock, database_is_shared, new_id
from webhook_server.metrics import Sample
from webhook_server.providers.provider import Provider
from webhook_server.routes.accept import accept_door
from webhook_server.routes.access import host_of
from webhook_server.routes.answers import Door, Receive, Scope, Send
from webhook_server.routes.blobs import PREFIX as BLOBS
from webhook_server.routes.blobs import blob_door
from webhook_server.routes.counters import Counters
from webhook_server.routes.front import Busy, Front, Later
from webhook_server.routes.heartbeats import heartbeat_door
from webhook_server.routes.masking import Masking
from webhook_server.routes.parts import JobGate, MachineGate, Parts
from webhook_server.routes.probes import Gauges, healthz, metrics_door, readyz
from webhook_server.routes.run_list import list_door
from webhook_server.routes.stream import PATH as STREAM
from webhook_server.routes.stream import Readers, stream_door
from webhook_server.rush import Rush
from webhook_server.settings import Settings
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.file_blobs import FileBlobs
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_secrets import RunSecrets
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.session_store import SessionStore
from webhook_server.stores.warm_store import WarmStore

if TYPE_CHECKING:
    from webhook_server.doctor.outside import Outside
    from webhook_server.github_side import GithubSide
    from webhook_server.stores.data_listing import ObjectSigner


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
        asking=found.asking,
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
        pins=found.pins,
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
        Busy("accept", _is_request, _counted(accept_door(parts), parts.asking)),
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


def _is_request(_: str, path: str) -> bool:
    return path == "/api/v1/runs"  # whatever is no GET


def _counted(door: Door, rush: Rush) -> Door:
    """Return a door whose requests go before the loop that works on what they bring."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        with rush:
            await door(scope, receive, send)

    return counted


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
    if github is None:
        return None
    # Imported late: it reads OpenID documents as well, and cryptography is 9 MiB.
    from webhook_server.doctor.outside import Outside

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
