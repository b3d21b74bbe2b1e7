"""Who asks what where, all of it checked: what the handlers of asks are given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cynthus.repository_policy import Allowance, Role
from webhook_server.github_api import PullFacts, RepositoryFacts
from webhook_server.intents import Person, Place
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.pull import Pull


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Who wants something of which repository, and what they may do there at this moment."""

    place: Place
    facts: RepositoryFacts
    policy: PolicySeen
    by: Person
    role: Role  # looked up now, not when it was asked
    at: datetime  # when it was asked, by GitHub's clock
    key: str  # `comment/<id>/<line>` or `button/<check run id>/<identifier>`: also the Reply's

    def is_of(self, allowance: Allowance) -> bool:
        """Say whether the person is among those that the policy means."""
        named = {login.casefold() for login in allowance.people}
        return self.role.reaches(allowance.role) or self.by.login.casefold() in named


@dataclass(frozen=True, kw_only=True)
class Asked(Standing):
    """One ask at a pull request, with all that GitHub says of its surroundings."""

    pull: PullFacts
    known: Pull

    @property
    def is_fork(self) -> bool:
        """Say whether the head comes from another repository, or from one that is gone."""
        return self.pull.head_repository_id != self.place.id


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of an ask that was carried out: our Markdown, and the runs it is about."""

    text: str
    run_ids: tuple[str, ...] = ()


class Declined(Exception):  # noqa: N818 - reads as what it is
    """The ask is not carried out; the text says why, as Markdown of ours."""
