"""Plan open heads anew where something else than a push to them has changed their verdict."""

from __future__ import annotations

from webhook_server.github_api import NotFound, RepositoryFacts
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.plan_keeping import keep_plan
from webhook_server.inbox.pulls import noted
from webhook_server.intents import Place

# A request each, and a delivery's lease holds for so many. Older ones are planned at their next
# head; a run stands under the policy of its own moment, whatever its plan says.
_NEWEST = 20


def plan_anew(
    parts: InboxParts, place: Place, facts: RepositoryFacts, sha: str | None = None
) -> int:
    """Plan the newest open heads anew, of those that have a plan; return how many. Repeatable.

    `sha`: only those at this commit. None: the policy has changed, and with it every verdict.
    Raises: Transient.
    """
    planned = 0
    for known in parts.pulls.open_of(place.id, _NEWEST):
        if known.plan is None or sha not in {None, known.plan.sha}:
            continue
        try:
            pull = parts.api.pull(place, known.number)
        except NotFound:
            continue
        noted(parts, place, pull, None)
        if pull.open:
            keep_plan(parts, place, facts, pull)
            planned += 1
    return planned
