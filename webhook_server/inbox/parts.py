"""What the inbox stands on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from webhook_server.auth.allowed import Allowed
from webhook_server.bell import Bell
from webhook_server.github_api import GithubApi, PullFacts, RepositoryFacts
from webhook_server.inbox.asked import Asked
from webhook_server.intents import Place
from webhook_server.runs.asks import Reading
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.pull import PlanResult
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore


class Skip(Exception):  # noqa: N818 - reads as what it is
    """The delivery asks for nothing that we do; the text says why."""


class Answer(Protocol):
    """Whatever answers asks that change nothing."""

    def __call__(self, parts: InboxParts, asked: Asked, ask: Reading) -> str:
        """Return the answer as Markdown of ours. Raises: Transient."""


class MakePlan(Protocol):
    """Whatever plans the head of a pull request."""

    def __call__(
        self, parts: InboxParts, place: Place, facts: RepositoryFacts, pull: PullFacts
    ) -> PlanResult | None:
        """Return the plan; None: the repository has no spec. Raises: Transient."""


@dataclass(frozen=True, kw_only=True)
class InboxParts:
    """The server's parts that the inbox uses."""

    api: GithubApi
    deliveries: DeliveryStore
    runs: RunStore
    pulls: PullStore
    publications: PublicationStore
    repositories: RepositoryStore
    events: EventStore
    warm: WarmStore
    allowed: Allowed
    bell: Bell
    policy: Callable[[Place], PolicySeen]  # raises Transient where it was never read
    policies: PolicyStore
    answer: Answer
    make_plan: MakePlan
    url_of: Callable[[str], str]  # a run's page
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    spread: Callable[[float, float], float] = random.uniform  # between two bounds, by chance
    let_door_go_first: Callable[[float], object] = lambda _: None  # waits at most so many seconds
