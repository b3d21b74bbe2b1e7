"""Open what doors and loops stand on: the address, the state, the clock that nobody else reads."""

from __future__ import annotations

import secrets
import socket
import string
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cynthus.errors import UserError
from webhook_server.auth.server_key import server_key
from webhook_server.bell import Bell
from webhook_server.metrics import METERS
from webhook_server.rush import Rush
from webhook_server.settings import Settings
from webhook_server.sources.pins import Pins
from webhook_server.sources.registry import open_pins
from webhook_server.stores.app_store import AppStore, with_app
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.blob_store import open_blob_store
from webhook_server.stores.database import Database
from webhook_server.stores.secret_protocol import SecretStore
from webhook_server.stores.secret_store import open_secret_store
from webhook_server.stores.shared_clock import SharedClock
from webhook_server.workers import Loop, run_loops

if TYPE_CHECKING:
    from webhook_server.auth.signing import Signer

_LETTERS = string.ascii_lowercase
_ID_LETTERS = _LETTERS + string.digits
_IDS = len(_LETTERS) * len(_ID_LETTERS) ** 11


def clock() -> datetime:
    """Return now."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


def new_id() -> str:
    """Return a run's id: 12 letters and digits, 61 bits, fit for names of instances.

    Of one random number: each is a call of the system, in which another thread takes the
    interpreter; one for each letter was most of what a busy door did for a request.
    """
    rest, first = divmod(secrets.randbelow(_IDS), len(_LETTERS))
    letters = [_LETTERS[first]]
    for _ in range(11):
        rest, letter = divmod(rest, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[letter])
    return "".join(letters)


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


def database_is_shared(settings: Settings) -> bool:
    """Return whether other servers may stand on the same state."""
    return settings.database_url.startswith("postgresql")


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
    asking: Rush  # requests for runs
    app: AppStore
    pins: Pins
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
        complete, remarks = (settings, ()) if alone else completed(settings, app)
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
                asking=Rush(),
                app=app,
                pins=open_pins(complete, blobs, kept_secrets),
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


def completed(settings: Settings, app: AppStore) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings with the App that set-up made, with what the operator should know."""
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
