"""Find where on GitHub a repository id lives now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cynthus.errors import Refused
from cynthus.frozen import replace
from webhook_server.auth.oidc import Caller, Forbidden, PullHead
from webhook_server.github_api import GithubApi
from webhook_server.intents import Place
from webhook_server.stores.repository_store import Repository, RepositoryStore


class Places:
    """Repositories by id, with the installation that covers them."""

    def __init__(
        self, api: GithubApi, repositories: RepositoryStore, now: Callable[[], datetime]
    ) -> None:
        self._api, self._repositories, self._now = api, repositories, now

    def find(self, repository_id: int, full_name: str) -> Place:
        """Return where the repository is; `full_name` counts only while the id is unknown.

        Raises: NotFound when the app is not installed there; Transient.
        """
        known = self._repositories.get(repository_id)
        if known is not None and known.installation_id and known.default_branch:
            return _place(known)
        return self._look_up(repository_id, known.full_name if known else full_name)

    def pull_head(self, caller: Caller, number: int) -> PullHead:
        """Ask GitHub for a pull request's head: what `auth.oidc.authorise` needs.

        Raises: Forbidden when there is no such pull request; Transient.
        """
        try:
            place = self.find(caller.repository_id, caller.repository)
            pull = self._api.pull(place, number)
        except Refused as error:
            raise Forbidden(f"pull_request: {error}") from error
        if not pull.open:
            raise Forbidden("pull_request: is closed.")
        return PullHead(sha=pull.sha, repository_id=pull.head_repository_id)

    def _look_up(self, repository_id: int, full_name: str) -> Place:
        asked = Place(
            id=repository_id,
            owner_id=0,
            full_name=full_name,
            default_branch="",
            installation_id=self._api.installation_of(full_name),
        )
        facts = self._api.repository(asked)  # compares the id: names can be registered again
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
