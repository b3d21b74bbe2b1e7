"""Look up, now, what somebody may do in a repository: the policy, and the role on GitHub."""

from __future__ import annotations

from cynthus.repository_policy import Role
from webhook_server.github_api import NotFound
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.intents import Person, Place
from webhook_server.runs.observations import PolicySeen


def looked_up(parts: InboxParts, place: Place, sender: Person) -> tuple[PolicySeen, Role]:
    """Return the policy as it stands, and the person's role at this moment, never an older one.

    Raises: Skip for a bot that the policy does not name, ourselves among them; Transient or
    Refused when either cannot be told.
    """
    policy = parts.policy(place)
    named = {login.casefold() for login in policy.policy.bots}
    if sender.bot and sender.login.casefold() not in named:
        raise Skip(f"{sender.login} is a bot that the policy does not name")
    try:
        return policy, parts.api.role(place, sender.login, sender.id)
    except NotFound:
        if sender.bot:  # an app has no role: only the policy, by its name, gives it any right
            return policy, Role.NONE
        raise
