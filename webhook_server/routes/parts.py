"""The parts that the doors are handed by doors.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cynthus.wire import RunRequest
from webhook_server.bell import Bell
from webhook_server.providers.provider import Provider
from webhook_server.routes.counters import Counters
from webhook_server.rush import Rush
from webhook_server.settings import Settings
from webhook_server.sources.pins import Pins
from webhook_server.stores.app_store import AppStore
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_secrets import RunSecrets
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.secret_protocol import SecretStore
from webhook_server.stores.session_store import SessionStore
from webhook_server.stores.warm_store import WarmStore


class Job(Protocol):
    """A workflow job that has proven itself."""

    @property
    def repository_id(self) -> int:
        """Return GitHub's number of its repository."""

    @property
    def owner_id(self) -> int:
        """Return GitHub's number of the repository's owner: the tenant."""

    @property
    def repository(self) -> str:
        """Return owner/name."""

    @property
    def actor(self) -> str:
        """Return the login of who caused it, by its token."""

    @property
    def jti(self) -> str:
        """Return the id of its token, which is good once."""

    @property
    def expires_at(self) -> datetime:
        """Return when its token ends."""


class JobGate(Protocol):
    """Lets in workflow jobs that may ask for exactly this run."""

    def identify(self, token: str) -> Job:
        """Return the job that holds the token; raises HttpRefusal (401, 403), Transient."""

    def admit(self, job: Job, workflow_run_url: str | None = None) -> None:
        """Check that the job may use this server, and that the URL, if given, is its own.

        Raises: HttpRefusal (403).
        """

    def authorise(self, job: Job, request: RunRequest) -> None:
        """Check that the job may ask for this run; raises HttpRefusal (403), Transient."""

    def default_branch(self, job: Job) -> str:
        """Return the default branch of the job's repository, empty when it is not known."""


class MachineGate(Protocol):
    """Lets in instances that prove themselves by their cloud's word."""

    provider_name: str

    def identify(self, token: str, *, instance: str, place: str, ordered_at: datetime) -> None:
        """Check that exactly this instance holds the token; raises HttpRefusal (401), Transient."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything a door may use."""

    settings: Settings
    server_key: bytes
    base_url: str  # what people, agents and GitHub are told
    own_hosts: frozenset[str]  # Host headers that mean this server
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    bell: Bell
    asking: Rush  # requests for runs: what they bring waits for the last of them
    counters: Counters
    database: Database
    runs: RunStore
    instances: InstanceStore
    events: EventStore
    publications: PublicationStore
    sessions: SessionStore
    blobs: BlobStore
    secrets: SecretStore
    run_secrets: RunSecrets
    pins: Pins | None = None  # None: data is not looked up here
    app: AppStore
    app_remarks: tuple[str, ...] = ()  # where set-up and the environment disagree
    warm: WarmStore
    providers: dict[str, Provider]
    jobs: JobGate | None  # None: GitHub is not configured
    machines: MachineGate | None = None  # None: no cloud whose instances have an identity
    alive: Callable[[], tuple[str, ...]]  # names of loops that have stopped moving
    public_key: bytes | None = None  # PEM, of the key that signs; None: nothing is signed
