"""Install an App on an account, and tell the App."""

from __future__ import annotations

from simulators import github_shapes as shapes
from simulators import github_webhooks as webhooks
from simulators.github_state import Doc, Json
from simulators.github_world import World


def install_app(
    world: World, app: Doc, owner: Doc, repo_ids: list[int] | None, **rights: Json
) -> Doc:
    """Install on all repositories of an account (`repo_ids` None) or on these.

    `rights` may name other permissions and events than the App asks for: those of an owner who
    has not accepted new ones yet.
    """
    now = world.store.stamp()
    installation = world.store.put(
        "installation",
        {
            "app_id": app["id"],
            "account_id": owner["id"],
            "selection": "all" if repo_ids is None else "selected",
            "repo_ids": repo_ids or [],
            "permissions": app["permissions"],
            "events": app["events"],
            "created_at": now,
            "updated_at": now,
            "suspended_at": None,
            "suspended_by_id": None,
            **rights,
        },
    )
    payload = {
        "action": "created",
        "installation": shapes.installation(world, installation),
        "repositories": [brief(world, repo) for repo in world.installation_repos(installation)],
        "requester": None,
        "sender": shapes.user(world, owner),
    }
    webhooks.emit_to(world, installation, "installation", payload)
    return installation


def brief(world: World, repo: Doc) -> Doc:
    """Return a repository as lists of an installation's repositories name it."""
    shape = shapes.minimal_repo(world, repo)
    return {name: shape[name] for name in ("id", "node_id", "name", "full_name", "private")}
