"""Ask GitHub where the repository of a delivery is now, and remember it."""

from __future__ import annotations

from cynthus.frozen import replace
from webhook_server.github_api import RepositoryFacts
from webhook_server.inbox.parts import InboxParts
from webhook_server.intents import Place
from webhook_server.stores.repository_store import Repository


def confirmed(parts: InboxParts, place: Place) -> tuple[Place, RepositoryFacts]:
    """Return the repository as GitHub knows it now; a payload's names may be old.

    Raises: NotFound when it is out of our reach, or another one by now; Transient.
    """
    if place.installation_id is None:
        place = replace(place, installation_id=parts.api.installation_of(place.full_name))
    facts = parts.api.repository(place)
    found = replace(
        place,
        owner_id=facts.owner_id,
        full_name=facts.full_name,
        default_branch=facts.default_branch,
    )
    _remember(parts, found)
    return found, facts


def _remember(parts: InboxParts, place: Place) -> None:
    parts.repositories.upsert(
        Repository(
            id=place.id,
            owner_id=place.owner_id,
            full_name=place.full_name,
            default_branch=place.default_branch,
            installation_id=place.installation_id,
        ),
        parts.now(),
    )
