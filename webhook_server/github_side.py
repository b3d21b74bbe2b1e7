"""Compose everything that stands between the server and GitHub."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cynthus.errors import Refused, Transient
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.fetch import fetch
from webhook_server.auth.oidc import Caller, OidcVerifier, PullHead
from webhook_server.bell import Bell
from webhook_server.github_api import AppHooks, AppSettings, GithubApi
from webhook_server.inbox import Inbox, InboxParts, Redelivery
from webhook_server.intents import Place
from webhook_server.routes.github_events import GithubEvents
from webhook_server.routes.jobs import GithubJobs
from webhook_server.settings import Settings
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.repository_store import Repository, RepositoryStore
from webhook_server.stores.run_store import RunStore


@dataclass(frozen=True, kw_only=True)
class GithubSide:
    """The GitHub half of a server that is a GitHub App's back end."""

    api: GithubApi
    events: GithubEvents
    jobs: GithubJobs
    inbox: Inbox
    redelivery: Redelivery


def open_github(
    settings: Settings,
    database: Database,
    bell: Bell,
    *,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> GithubSide:
    """Return the GitHub side of a server with a GitHub App."""
    api = _api(settings, now)
    deliveries, repositories = DeliveryStore(database), RepositoryStore(database)
    allowed = Allowed(settings.allowed, state=database.state, set_state=database.set_state)
    verifier = OidcVerifier(
        issuer=settings.oidc_issuer, audience=settings.oidc_audience, fetch=fetch, now=now
    )
    return GithubSide(
        api=api,
        events=GithubEvents(
            secrets=_webhook_secrets(settings),
            store=lambda guid, event, body: deliveries.store_async(guid, event, body, now()),
            ring=lambda: bell.ring("deliveries"),
        ),
        jobs=GithubJobs(verifier, allowed, _Repositories(api, repositories, now)),
        inbox=Inbox(
            InboxParts(
                api=api,
                deliveries=deliveries,
                runs=RunStore(database),
                publications=PublicationStore(database),
                repositories=repositories,
                allowed=allowed,
                bell=bell,
                now=now,
                new_id=new_id,
            )
        ),
        redelivery=Redelivery(AppHooks(api.app), deliveries, database, now),
    )


def _api(settings: Settings, now: Callable[[], datetime]) -> GithubApi:
    found = AppSettings(
        api_url=settings.github_api_url,
        uploads_url=settings.github_uploads_url,
        app_id=settings.github_app_id,
        private_key=settings.github_private_key,
        write_spacing=settings.github_write_spacing,
    )
    return GithubApi(found, now=now, wait=time.sleep)


def _webhook_secrets(settings: Settings) -> tuple[bytes, ...]:
    parts = (part.strip() for part in settings.webhook_secret.split(","))
    return tuple(part.encode() for part in parts if part)


class _Repositories:
    """What is known of the repositories that jobs come from, asked of GitHub when it is not."""

    def __init__(self, api: GithubApi, store: RepositoryStore, now: Callable[[], datetime]) -> None:
        self._api, self._store, self._now = api, store, now

    def default_branch(self, caller: Caller) -> str:
        """Return the default branch, or empty text when GitHub does not let us see it."""
        try:
            return self._place(caller).default_branch
        except Refused:
            return ""  # the app is not installed there: the spec's own branches decide

    def pull_head(self, caller: Caller, number: int) -> PullHead:
        """Return the pull request's head as it is now. Raises: Transient."""
        try:
            pull = self._api.pull(self._place(caller), number)
        except Refused as error:
            raise Transient(f"pull request {number}: cannot be looked up: {error}") from error
        return PullHead(sha=pull.sha, repository_id=pull.head_repository_id)

    def _place(self, caller: Caller) -> Place:
        known = self._store.get(caller.repository_id)
        if known is not None and known.installation_id and known.default_branch:
            return _place(known)
        asked = self._asked(caller)
        self._store.upsert(asked, self._now())
        return _place(asked)

    def _asked(self, caller: Caller) -> Repository:
        place = Place(
            id=caller.repository_id,
            owner_id=caller.owner_id,
            full_name=caller.repository,
            default_branch="",
            installation_id=self._api.installation_of(caller.repository),
        )
        facts = self._api.repository(place)
        return Repository(
            id=place.id,
            owner_id=place.owner_id,
            full_name=facts.full_name,
            default_branch=facts.default_branch,
            installation_id=place.installation_id,
        )


def _place(known: Repository) -> Place:
    return Place(
        id=known.id,
        owner_id=known.owner_id,
        full_name=known.full_name,
        default_branch=known.default_branch,
        installation_id=known.installation_id,
    )
