"""What the publisher and all that it shows stand on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.github_api import GithubApi
from webhook_server.intents import Place
from webhook_server.publish.line import Line
from webhook_server.publish.places import Places
from webhook_server.publish.release_maker import ReleaseSources
from webhook_server.runs.model import Run
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.sizing import Advice
from webhook_server.runs.usage import Usage
from webhook_server.stores.publication_store import Publication, PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore

Spawn = Callable[[Callable[[], None]], None]


def no_advice(_run: Run, _usage: Usage) -> Advice | None:
    """Advise nothing: this process knows no providers."""
    return None


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What says which releases stay."""

    policy: Callable[[Place], PolicySeen]  # raises Transient
    baselines: Baselines


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The server's parts that the publisher uses."""

    api: GithubApi | None  # None: the server has no GitHub App
    runs: RunStore
    pulls: PullStore
    publications: PublicationStore
    repositories: RepositoryStore
    sources: ReleaseSources
    bell: Bell
    url_of: Callable[[str], str]  # run id → the dashboard's page
    now: Callable[[], datetime]
    advise: Callable[[Run, Usage], Advice | None] = no_advice  # may take seconds
    keeping: Keeping | None = None  # None: no release is ever deleted
    spread: Callable[[float, float], float] = random.uniform  # between two bounds, by chance
    new_token: Callable[[], str] = lambda: uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Outside:
    """GitHub, for a server that has an App."""

    api: GithubApi
    places: Places
    line: Line


class Show(Protocol):
    """One kind of publication: compare what GitHub should show with what was sent, send the rest.

    Saves the publication in every case. Raises what GithubApi raises: the publisher sorts it.
    """

    def show(self, item: Publication) -> None:
        """Bring one thing up to date."""
