"""Note the plan of a pull request's head, so that its check run is shown."""

from __future__ import annotations

from cynthus.frozen import replace
from webhook_server.github_api import PullFacts, RepositoryFacts
from webhook_server.inbox.parts import InboxParts
from webhook_server.intents import Place
from webhook_server.runs.pull import Pull
from webhook_server.stores.publication_store import PublicationKind


def keep_plan(parts: InboxParts, place: Place, facts: RepositoryFacts, pull: PullFacts) -> None:
    """Plan the head anew, and let it be shown where it differs; safe to repeat.

    Asked for at every new head, and once an approval has changed the verdict. Raises: Transient.
    """
    plan = parts.make_plan(parts, place, facts, pull)
    if plan is None:
        return
    new = Pull(repository_id=place.id, number=pull.number, repository=place.full_name)
    shown = (PublicationKind.PLAN,)
    parts.pulls.change(new, lambda known: replace(known, plan=plan), parts.now(), shown)
    parts.bell.ring("publications")
