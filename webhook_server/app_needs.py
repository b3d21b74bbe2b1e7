"""What the GitHub App needs of GitHub, why, and what an installation lacks of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LONGEST_NAME = 34  # characters: https://docs.github.com/apps (registering a GitHub App)
WEBHOOK_PATH = "/webhooks/github"
CALLBACK_PATH = "/setup/callback"
_LEVELS = ("none", "read", "write", "admin")


@dataclass(frozen=True, kw_only=True)
class Need:
    """One permission: what it is for, and what cannot be done without it."""

    permission: str
    level: str
    why: str
    lost: str  # what the server cannot do without it
    enough: str = ""  # a lower level with which runs still work
    kept: str = ""  # what is lost with that lower level only


#: Each is the least that the calls of `github_api` get by with.
#: https://docs.github.com/rest/authentication/permissions-required-for-github-apps
NEEDS = (
    Need(
        permission="metadata",
        level="read",
        why="find repositories, look up who may do what",
        lost="cannot find repositories",
    ),
    Need(
        permission="checks",
        level="write",
        why="show each run as a check run, with its buttons",
        lost="cannot write check runs",
    ),
    Need(
        permission="contents",
        level="write",
        why="read cynthus.yaml; attach outputs to releases; ask for an image to be built",
        lost="cannot read cynthus.yaml",
        enough="read",
        kept="cannot make releases, cannot ask for images to be built",
    ),
    Need(
        permission="pull_requests",
        level="write",
        why="read pull requests, answer in one comment of each",
        lost="cannot answer on pull requests",
    ),
    Need(
        permission="issues",
        level="write",
        why="put an emoji on the comment that asked, as GitHub counts reactions to issues",
        lost="cannot react to comments",
    ),
)

#: What the inbox reads. `installation` and its like come unasked, and may not be asked for:
#: https://docs.github.com/webhooks/webhook-events-and-payloads#installation
EVENTS = (
    "check_run",
    "check_suite",
    "issue_comment",
    "pull_request",
    "push",
    "release",
    "repository",
)


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that an installation, or the App itself, does not have."""

    text: str
    blocks: bool  # False: runs work without it


def manifest(name: str, base_url: str) -> dict[str, Any]:
    """Return the App as GitHub's page takes it.

    https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
    """
    return {
        "name": name,
        "url": base_url,
        "description": "Turns a commit into a finished GPU run.",
        "hook_attributes": {"url": base_url + WEBHOOK_PATH, "active": True},
        "redirect_url": base_url + CALLBACK_PATH,
        "setup_url": f"{base_url}/setup",
        "public": False,
        "default_permissions": {need.permission: need.level for need in NEEDS},
        "default_events": list(EVENTS),
    }


def lacks(permissions: Mapping[str, str], events: Collection[str]) -> tuple[Lack, ...]:
    """Return what is missing of what the server needs, in the order of their weight."""
    found = [lack for need in NEEDS for lack in _lack(need, permissions)]
    missing = [event for event in EVENTS if event not in events]
    if missing:
        found.append(Lack(text=f"does not send {', '.join(missing)}", blocks="push" in missing))
    return tuple(sorted(found, key=lambda lack: not lack.blocks))


def _lack(need: Need, permissions: Mapping[str, str]) -> tuple[Lack, ...]:
    found = permissions.get(need.permission, "none")
    wanted = f"permission {need.permission}: {need.level}"
    if _rank(found) >= _rank(need.level):
        return ()
    if need.enough and _rank(found) >= _rank(need.enough):
        return (Lack(text=f"{need.kept} ({wanted})", blocks=False),)
    return (Lack(text=f"{need.lost} ({wanted})", blocks=True),)


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else 0


def web_url(api_url: str) -> str:
    """Return where people meet the GitHub whose REST API lies at `api_url`.

    https://docs.github.com/enterprise-server/rest/using-the-rest-api/getting-started-with-the-rest-api
    """
    parts = urlsplit(api_url)
    path = parts.path.rstrip("/").removesuffix("/v3").removesuffix("/api")
    # github.com and GHE.com give their API a host of its own, Enterprise Server gives it a path.
    return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}{path}"
