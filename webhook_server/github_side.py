"""Compose everything that stands between the server and GitHub."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cynthus.errors import Refused
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.fetch import fetch
from webhook_server.auth.oidc import Caller, OidcVerifier
from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.github_api import AppHooks, AppReader, AppSettings, GithubApi
from webhook_server.inbox import Inbox, InboxParts, Redelivery
from webhook_server.inbox.plans import Plans
from webhook_server.inbox.reading import Reader
from webhook_server.planning import Planner
from webhook_server.policies import Policies
from webhook_server.publish.places import Places
from webhook_server.routes.github_events import GithubEvents
from webhook_server.routes.jobs import GithubJobs
from webhook_server.settings import Settings
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.pace_store import PaceStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore


@dataclass(frozen=True, kw_only=True)
class GithubSide:
    """The GitHub half of a server that is a GitHub App's back end."""

    api: GithubApi
    events: GithubEvents
    jobs: GithubJobs
    inbox: Inbox
    redelivery: Redelivery
    now: Callable[[], datetime]
    policies: Policies
    arrived_since: Callable[[datetime], bool]  # a signed delivery, at any of our doors
    reader: AppReader  # what GitHub says of the App itself


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the GitHub side stands on."""

    settings: Settings
    database: Database
    bell: Bell
    planner: Planner
    url_of: Callable[[str], str]  # run id → the dashboard's page
    now: Callable[[], datetime]
    new_id: Callable[[], str]


def open_github(ground: Ground) -> GithubSide:
    """Return the GitHub side of a server with a GitHub App."""
    settings, database, bell, now = ground.settings, ground.database, ground.bell, ground.now
    api = _api(settings, database, now)
    deliveries, repositories = DeliveryStore(database), RepositoryStore(database)
    allowed = Allowed(settings.allowed, state=database.state, keep_state=database.keep_state)
    verifier = OidcVerifier(
        issuer=settings.oidc_issuer, audience=settings.oidc_audience, fetch=fetch, now=now
    )
    plans = Plans(ground.planner, HistoryStore(database))
    runs, events = RunStore(database), EventStore(database)
    baselines = Baselines(runs=runs, events=events, environments=EnvironmentStore(database))
    places = Places(api, repositories, now)
    policy_store = PolicyStore(database)
    policies = Policies(api, policy_store, places.find, now)
    door = GithubEvents(
        secrets=_webhook_secrets(settings),
        store=lambda guid, event, body: deliveries.store_async(guid, event, body, now()),
        ring=lambda: bell.ring("deliveries"),
        see=lambda: deliveries.see_async(now()),
    )
    return GithubSide(
        api=api,
        events=door,
        jobs=GithubJobs(verifier, allowed, _Jobs(places), runs.waits),
        inbox=Inbox(
            InboxParts(
                api=api,
                deliveries=deliveries,
                runs=runs,
                pulls=PullStore(database),
                publications=PublicationStore(database),
                repositories=repositories,
                allowed=allowed,
                bell=bell,
                now=now,
                new_id=ground.new_id,
                events=events,
                warm=WarmStore(database),
                policy=policies.of,
                policies=policy_store,
                answer=Reader(plans, baselines).answer,
                make_plan=plans.make,
                url_of=ground.url_of,
                let_door_go_first=door.rush.wait_out,
            )
        ),
        redelivery=Redelivery(AppHooks(api.app), deliveries, database, now),
        now=now,
        policies=policies,
        arrived_since=deliveries.arrived_since,
        reader=AppReader(api.app, api_url=settings.github_api_url, now=now),
    )


def _api(settings: Settings, database: Database, now: Callable[[], datetime]) -> GithubApi:
    found = AppSettings(
        api_url=settings.github_api_url,
        uploads_url=settings.github_uploads_url,
        app_id=settings.github_app_id,
        private_key=settings.github_private_key,
        write_spacing=settings.github_write_spacing,
    )
    # A server on SQLite is the only one of its database: its paces need no disk.
    paces = PaceStore(database) if database.may_be_shared else None
    return GithubApi(found, now=now, wait=time.sleep, paces=paces)


def _webhook_secrets(settings: Settings) -> tuple[bytes, ...]:
    parts = (part.strip() for part in settings.webhook_secret.split(","))
    return tuple(part.encode() for part in parts if part)


class _Jobs:
    """What the job's door asks of GitHub."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.pull_head = places.pull_head

    def default_branch(self, caller: Caller) -> str:
        """Return the default branch, or empty text when GitHub does not let us see it."""
        try:
            return self._places.find(caller.repository_id, caller.repository).default_branch
        except Refused:
            return ""  # the app is not installed there: the spec's own branches decide
