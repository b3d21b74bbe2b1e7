"""What the inbox stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from webhook_server.auth.allowed import Allowed
from webhook_server.bell import Bell
from webhook_server.github_api import GithubApi
from webhook_server.planning import Planner
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore


class Skip(Exception):  # noqa: N818 - reads as what it is
    """The delivery asks for nothing that we do; the text says why."""


@dataclass(frozen=True, kw_only=True)
class InboxParts:
    """The server's parts that the inbox uses."""

    api: GithubApi
    deliveries: DeliveryStore
    runs: RunStore
    pulls: PullStore
    publications: PublicationStore
    repositories: RepositoryStore
    allowed: Allowed
    bell: Bell
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    events: EventStore
    history: HistoryStore
    planner: Planner
    url_of: Callable[[str], str]  # run id → the dashboard's page
