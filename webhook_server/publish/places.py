"""Find where on GitHub a repository id lives now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from webhook_server.github_api import GithubApi, NotFound
from webhook_server.intents import Place
from webhook_server.runs.model import Run
from webhook_server.stores.repository_store import Repository, RepositoryStore


class Places:
    """Repositories by id, with the installation that covers them."""

    def __init__(
        self, api: GithubApi, repositories: RepositoryStore, now: Callable[[], datetime]
    ) -> None:
        self._api, self._repositories, self._now = api, repositories, now

    def find(self, run: Run) -> Place:
        """Return where the run's repository is.

        Raises: NotFound when the app is not installed there; Transient.
        """
        known = self._repositories.get(run.key.repository_id)
        if known is not None and known.installation_id:
            return _place(known)
        return self.look_up(run)

    def look_up(self, run: Run) -> Place:
        """Ask GitHub anew, and remember the answer."""
        known = self._repositories.get(run.key.repository_id)
        name = known.full_name if known else run.repository
        asked = Place(
            id=run.key.repository_id,
            owner_id=known.owner_id if known else 0,
            full_name=name,
            default_branch=known.default_branch if known else run.default_branch,
            installation_id=self._api.installation_of(name),
        )
        facts = self._api.repository(asked)  # compares the id: names can be registered again
        if facts.id != run.key.repository_id:
            raise NotFound(f"{name}: is another repository now.")
        found = replace(
            asked,
            owner_id=facts.owner_id,
            full_name=facts.full_name,
            default_branch=facts.default_branch,
        )
        self._repositories.upsert(_row(found), self._now())
        return found


def _place(known: Repository) -> Place:
    return Place(
        id=known.id,
        owner_id=known.owner_id,
        full_name=known.full_name,
        default_branch=known.default_branch,
        installation_id=known.installation_id,
    )


def _row(place: Place) -> Repository:
    return Repository(
        id=place.id,
        owner_id=place.owner_id,
        full_name=place.full_name,
        default_branch=place.default_branch,
        installation_id=place.installation_id,
    )
