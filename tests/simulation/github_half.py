"""The GitHub half of one simulated replica: the real door, inbox, publisher and redelivery.

Composed as `webhook_server.github_side` and `webhook_server.loops` do, but with connections,
locks, waits and chance that are the simulation's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.doorway import beside_the_loop, post
from tests.simulation.github import APP_ID, Github, Sent
from tests.simulation.github_connection import API_URL, Call, Connection, turns
from tests.simulation.webhooks import SECRET
from webhook_server.auth.allowed import Allowed
from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.github_api import AppHooks, AppSettings, GithubApi, Way
from webhook_server.inbox import Inbox, InboxParts, Redelivery
from webhook_server.inbox.plans import Plans
from webhook_server.inbox.reading import Reader
from webhook_server.planning import Planner
from webhook_server.policies import Policies
from webhook_server.providers.provider import Provider
from webhook_server.publish import Parts, Publisher
from webhook_server.publish.parts import Keeping
from webhook_server.publish.places import Places
from webhook_server.publish.release_maker import ReleaseSources
from webhook_server.routes.github_events import GithubEvents
from webhook_server.runs.budget import BudgetLimits
from webhook_server.stores.blob_protocol import BlobStore, blob_key
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore

_KEY = "-----BEGIN PRIVATE KEY-----\nnobody is asked to read it\n-----END PRIVATE KEY-----\n"
ALLOWED = ("acme", "globex")  # the owners whose repositories may use the server


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a replica gives its GitHub half."""

    github: Github
    database: Database
    providers: Mapping[str, Provider]
    default_provider: str
    blobs: BlobStore
    bell: Bell
    now: Callable[[], datetime]  # the replica's own clock
    wait: Callable[[float], None]  # in virtual time
    call: Call
    chance: random.Random
    new_id: Callable[[], str]
    pool: Executor
    spawn: Callable[[Callable[[], None]], None]
    new_token: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class GithubHalf:
    """What a replica runs of it, and asks of it."""

    door: GithubEvents
    inbox: Inbox
    publisher: Publisher
    redelivery: Redelivery
    policies: Policies
    api: GithubApi

    def post(self, sent: Sent, signature: str) -> int:
        """Return the status that the real door answers a delivery with."""
        return post(self.door, sent, signature)


def open_half(ground: Ground) -> GithubHalf:
    """Compose the half; nothing runs yet."""
    database, now = ground.database, ground.now
    api = _api(ground)
    deliveries = DeliveryStore(database, ground.new_token)
    places = Places(api, RepositoryStore(database), now)
    policies = Policies(api, PolicyStore(database), places.find, now)
    return GithubHalf(
        door=GithubEvents(
            secrets=(SECRET,),
            store=beside_the_loop(
                lambda guid, event, body: deliveries.store_async(guid, event, body, now())
            ),
            ring=lambda: ground.bell.ring("deliveries"),
        ),
        inbox=_inbox(ground, api, deliveries, policies),
        publisher=_publisher(ground, api, policies),
        redelivery=Redelivery(AppHooks(api.app), deliveries, database, now),
        policies=policies,
        api=api,
    )


def _api(ground: Ground) -> GithubApi:
    def connect(_url: str, auth: Any) -> Any:
        return Connection(ground.github, ground.call, ground.chance, auth)

    settings = AppSettings(
        api_url=API_URL,
        uploads_url="",
        app_id=APP_ID,
        private_key=_KEY,
        write_spacing=timedelta(seconds=1),
    )
    way = Way(connect=connect, lock=turns(ground.wait))
    return GithubApi(settings, now=ground.now, wait=ground.wait, way=way)


def _baselines(database: Database) -> Baselines:
    return Baselines(
        runs=RunStore(database),
        events=EventStore(database),
        environments=EnvironmentStore(database),
    )


def _inbox(ground: Ground, api: GithubApi, deliveries: DeliveryStore, policies: Policies) -> Inbox:
    database = ground.database
    planner = Planner(
        providers=dict(ground.providers),
        default_provider=ground.default_provider,
        longest=timedelta(days=7),
        budgets=BudgetStore(database, BudgetLimits()).of_repository,
        cooling=CoolDownStore(database).current,
        now=ground.now,
    )
    plans = Plans(planner, HistoryStore(database))
    parts = InboxParts(
        api=api,
        deliveries=deliveries,
        runs=RunStore(database, ground.new_token),
        pulls=PullStore(database),
        publications=PublicationStore(database, ground.new_token),
        repositories=RepositoryStore(database),
        allowed=Allowed(ALLOWED, state=database.state, keep_state=database.keep_state),
        bell=ground.bell,
        now=ground.now,
        new_id=ground.new_id,
        events=EventStore(database),
        warm=WarmStore(database),
        policy=policies.of,
        policies=PolicyStore(database),
        answer=Reader(plans, _baselines(database)).answer,
        make_plan=plans.make,
        url_of=page_of,
        spread=ground.chance.uniform,
    )
    return Inbox(parts)


def _publisher(ground: Ground, api: GithubApi, policies: Policies) -> Publisher:
    database = ground.database
    runs, events = RunStore(database, ground.new_token), EventStore(database)
    sources = ReleaseSources(
        events=events,
        blobs=ground.blobs,
        blob_key=blob_key,
        spec_text=runs.spec_text,
        environment=EnvironmentStore(database).texts,
    )
    parts = Parts(
        api=api,
        runs=runs,
        pulls=PullStore(database),
        publications=PublicationStore(database, ground.new_token),
        repositories=RepositoryStore(database),
        sources=sources,
        bell=ground.bell,
        url_of=page_of,
        now=ground.now,
        keeping=Keeping(policy=policies.of, baselines=_baselines(database)),
        spread=ground.chance.uniform,
        new_token=ground.new_token,
    )
    return Publisher(parts, spawn=ground.spawn, pool=ground.pool)


def page_of(run_id: str) -> str:
    """Return a run's page on the dashboard."""
    return f"https://cynthus.test/runs/{run_id}"
