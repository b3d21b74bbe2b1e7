"""Keep installation tokens: one a repository, renewed minutes before it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from github import Auth

from cynthus.errors import Transient
from webhook_server.github_api.door import Door, Invalid, NotFound

MARGIN = timedelta(minutes=5)  # a token lives an hour; what is begun with one must end with it
_KEPT = 1000  # repositories; above that the oldest tokens are asked for again


class InstallationTokens:
    """Tokens that can touch one repository only, by its id.

    GitHub itself then refuses whatever would reach another repository under a reused name.
    https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
    """

    def __init__(
        self,
        app: Door,
        *,
        now: Callable[[], datetime],
        lock: Callable[[], AbstractContextManager[Any]] = threading.Lock,
    ) -> None:
        self._app, self._now = app, now
        self._kept: dict[tuple[int, int], tuple[Auth.Token, datetime]] = {}
        self._lock = lock()

    def find(self, installation_id: int, repository_id: int, *, fresh: bool) -> Auth.Token:
        """Return a token with minutes to live; `fresh`: a new one in any case."""
        key = (installation_id, repository_id)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and not fresh and self._now() + MARGIN < kept[1]:
                return kept[0]
            found = self._ask(installation_id, repository_id)
            self._kept.pop(key, None)
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
            return found[0]

    def _ask(self, installation_id: int, repository_id: int) -> tuple[Auth.Token, datetime]:
        path = f"/app/installations/{installation_id}/access_tokens"
        try:
            answer = self._app.write("POST", path, {"repository_ids": [repository_id]})
        except Invalid as error:
            raise NotFound(f"the app is not installed on repository {repository_id}.") from error
        value = answer.value if isinstance(answer.value, dict) else {}
        token, ends = value.get("token"), value.get("expires_at")
        if not isinstance(token, str) or not token or not isinstance(ends, str):
            raise Transient("GitHub answered the request for a token with something unreadable.")
        return Auth.Token(token), datetime.fromisoformat(ends)
