"""Read what GitHub says of the App itself: its installations, its webhook, its newest deliveries.

https://docs.github.com/rest/apps/apps, https://docs.github.com/rest/apps/webhooks
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from github import Auth

from cynthus.errors import CynthusError, Refused, Transient
from webhook_server.github_api.door import PER_PAGE, Answer, Door, Invalid, Manners, NotFound
from webhook_server.github_api.kept_answers import KeptAnswers
from webhook_server.github_api.pace import OwnPaces, Pace

_MOST_PAGES = 10  # a thousand installations; more than a page of ours could show
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
Now = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class AppFacts:
    """The App as GitHub has it."""

    id: int
    slug: str
    name: str
    owner: str
    url: str
    permissions: Mapping[str, str]
    events: tuple[str, ...]
    github_now: datetime | None  # GitHub's clock as it answered; None: it did not say


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One account's installation of the App."""

    id: int
    account: str
    url: str
    suspended: bool
    repositories: int | None  # None: it cannot be told
    permissions: Mapping[str, str]
    events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HookConfig:
    """Where GitHub delivers to, and how."""

    url: str
    content_type: str
    has_secret: bool
    verifies_tls: bool


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """One delivery of the App's log."""

    id: int
    guid: str
    event: str
    status: str
    status_code: int


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A new App with its keys; they are given once."""

    id: int
    slug: str
    name: str
    url: str
    owner: str
    owner_id: int
    private_key: str
    webhook_secret: str
    client_secret: str

    def __repr__(self) -> str:
        """Show which App it is, never its keys."""
        return f"Converted(id={self.id}, slug={self.slug!r})"


class AppReader:
    """GitHub's word about the App. Every method raises Transient, NotFound, Invalid or Refused."""

    def __init__(self, app: Door, *, api_url: str, now: Now) -> None:
        self._app, self._api_url, self._now = app, api_url, now

    def app(self) -> AppFacts:
        """Return the App."""
        answer = self._app.get("/app")
        value = _object(answer)
        return AppFacts(
            id=_whole(value, "id"),
            slug=str(value.get("slug") or ""),
            name=str(value.get("name") or ""),
            owner=_login(value.get("owner")),
            url=str(value.get("html_url") or ""),
            permissions=_words(value.get("permissions")),
            events=_events(value),
            github_now=_date(answer.headers.get("date", "")),
        )

    def installations(self) -> tuple[Installation, ...]:
        """Return all installations, each with the number of its repositories."""
        found: list[Installation] = []
        for page in range(1, _MOST_PAGES + 1):
            answer = self._app.get("/app/installations", per_page=PER_PAGE, page=page)
            items = answer.value if isinstance(answer.value, list) else []
            found += [self._installation(item) for item in items if isinstance(item, dict)]
            if len(items) < PER_PAGE:
                break
        return tuple(found)

    def _installation(self, item: Mapping[str, Any]) -> Installation:
        installation_id, suspended = _whole(item, "id"), bool(item.get("suspended_at"))
        return Installation(
            id=installation_id,
            account=_login(item.get("account")),
            url=str(item.get("html_url") or ""),
            suspended=suspended,
            repositories=None if suspended else self._count(installation_id),
            permissions=_words(item.get("permissions")),
            events=_events(item),
        )

    def _count(self, installation_id: int) -> int | None:
        """Return how many repositories it covers, with a token that can do nothing else."""
        path = f"/app/installations/{installation_id}/access_tokens"
        try:
            value = _object(self._app.write("POST", path, {"permissions": {"metadata": "read"}}))
            token = Auth.Token(str(value["token"]))
            door = self._door(lambda _: token)
            listed = _object(door.get("/installation/repositories", per_page=1))
            return _whole(listed, "total_count")
        except (CynthusError, KeyError, AssertionError):
            return None  # the table shows the rest; what is wrong is told by its own check

    def _door(self, auth: Callable[[bool], Auth.Auth | None]) -> Door:
        return a_door(self._api_url, auth, self._now)

    def hook(self) -> HookConfig:
        """Return how the App's webhook is set."""
        value = _object(self._app.get("/app/hook/config"))
        return HookConfig(
            url=str(value.get("url") or ""),
            content_type=str(value.get("content_type") or ""),
            has_secret=bool(value.get("secret")),
            verifies_tls=str(value.get("insecure_ssl", "0")) == "0",
        )

    def newest_delivery(self) -> Delivered | None:
        """Return the newest delivery of GitHub's log, which goes back three days."""
        answer = self._app.get("/app/hook/deliveries", per_page=1)
        items = answer.value if isinstance(answer.value, list) else []
        if not items or not isinstance(items[0], dict):
            return None
        return Delivered(
            id=_whole(items[0], "id"),
            guid=str(items[0].get("guid") or ""),
            event=str(items[0].get("event") or ""),
            status=str(items[0].get("status") or ""),
            status_code=int(items[0].get("status_code") or 0),
        )

    def redeliver(self, delivery_id: int) -> None:
        """Ask for one delivery again; it comes under the same guid."""
        self._app.write("POST", f"/app/hook/deliveries/{delivery_id}/attempts")


def a_door(api_url: str, auth: Callable[[bool], Auth.Auth | None], now: Now) -> Door:
    """Return a door for a few requests of one identity, or of none."""
    manners = Manners(
        pace=Pace(0, OwnPaces(), now=now, spacing=timedelta(0)),
        wait=lambda _: None,  # nothing is spaced: each is one request
        count=lambda _: None,
        kept=KeptAnswers(),
    )
    return Door(api_url=api_url, auth=auth, manners=manners)


def convert(api_url: str, code: str, now: Now) -> Converted:
    """Turn the code of the manifest flow into the App and its keys; GitHub takes it once.

    Raises: Refused for a code that GitHub does not take (any more); Transient.
    https://docs.github.com/rest/apps/apps#create-a-github-app-from-a-manifest
    """
    if not _CODE.fullmatch(code):
        raise Refused("code: should be what GitHub gave, found something else. Begin again.")
    door = a_door(api_url, lambda _: None, now)
    try:
        value = _object(door.write("POST", f"/app-manifests/{code}/conversions"))
    # What went wrong is told without the path, which has the code in it.
    except (NotFound, Invalid):
        raise Refused("code: GitHub does not take it (any more). Begin again.") from None
    except Transient as error:
        raise Transient("GitHub did not hand out the App's keys.", error.retry_at) from None
    owner = value.get("owner")
    return Converted(
        id=_whole(value, "id"),
        slug=_text(value, "slug"),
        name=_text(value, "name"),
        url=_text(value, "html_url"),
        owner=_login(owner),
        owner_id=_whole(owner if isinstance(owner, dict) else {}, "id"),
        private_key=_text(value, "pem"),
        webhook_secret=_text(value, "webhook_secret"),
        client_secret=_text(value, "client_secret"),
    )


def _object(answer: Answer) -> Mapping[str, Any]:
    if not isinstance(answer.value, dict):
        raise Transient("GitHub answered with something unreadable.")
    return answer.value


def _whole(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise Transient(f"GitHub's answer should have a number at {name}.")
    return found


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise Transient(f"GitHub's answer should have text at {name}.")
    return found


def _login(account: Any) -> str:
    """Return an account's name; an enterprise has a slug instead of a login."""
    value = account if isinstance(account, dict) else {}
    return str(value.get("login") or value.get("slug") or "")


def _words(value: Any) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(name): str(level) for name, level in pairs}


def _events(value: Mapping[str, Any]) -> tuple[str, ...]:
    found = value.get("events")
    return tuple(str(event) for event in found) if isinstance(found, list) else ()


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
