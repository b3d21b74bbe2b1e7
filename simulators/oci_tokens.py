"""The token service of a simulated registry: who may do what, and for how long.

https://distribution.github.io/distribution/spec/auth/token/ and …/spec/auth/oauth/
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl

from simulators.oci_http import Answer, Refusal, Request, json_answer
from simulators.oci_vendors import Vendor

_LARGEST_FORM = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a token allows, until when by the simulator's clock."""

    rights: frozenset[tuple[str, str]]  # repository, action
    until: float


@dataclass(kw_only=True)
class Accounts:
    """Who is known, and what may be read by everybody."""

    users: dict[str, str]
    identity_tokens: dict[str, str] = field(default_factory=dict)  # token → user
    readers: dict[str, str] = field(default_factory=dict)  # users who may only pull
    forbidden: set[str] = field(default_factory=set)  # repositories that nobody reaches
    public: bool = False


class TokenService:
    """Gives tokens and judges them."""

    def __init__(self, vendor: Vendor, accounts: Accounts) -> None:
        self.vendor, self.accounts = vendor, accounts
        self.url = ""
        self.shift_s = 0.0
        self._lock = threading.Lock()
        self._grants: dict[str, Grant] = {}

    def now(self) -> float:
        """Return the simulator's time."""
        return time.time() + self.shift_s

    def expire(self) -> None:
        """End every token."""
        with self._lock:
            self._grants = {
                text: Grant(rights=grant.rights, until=0) for text, grant in self._grants.items()
            }

    # ── giving ──────────────────────────────────────────────────────────────────────────────────

    def give(self, request: Request) -> Answer:
        """Answer a request for a token."""
        if request.method == "POST":
            form = parse_qsl(request.whole(_LARGEST_FORM).decode("utf-8", "replace"))
            user: str | None = self._by_form(dict(form))
            scopes = dict(form).get("scope", "").split(" ")
        else:
            form = request.lists
            user = self._by_basic(request)
            scopes = [word for name, value in form if name == "scope" for word in value.split(" ")]
        if not dict(form).get("service"):
            raise Refusal(400, "UNSUPPORTED", "service is required")
        rights = self._rights(user, [scope for scope in scopes if scope])
        text = secrets.token_urlsafe(24)
        with self._lock:
            grant = Grant(rights=rights, until=self.now() + self.vendor.token_life_s)
            self._grants[text] = grant
        name = "access_token" if request.method == "POST" else "token"
        return json_answer({name: text, "expires_in": self.vendor.token_life_s})

    def _by_basic(self, request: Request) -> str | None:
        header = request.headers.get("authorization", "")
        if not header:
            return None
        try:
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        except ValueError:
            pair = ""
        name, _, password = pair.partition(":")
        if {**self.accounts.readers, **self.accounts.users}.get(name) != password or not password:
            _denied(self.vendor, "incorrect username or password")
        return name

    def _by_form(self, form: dict[str, str]) -> str:
        kind = form.get("grant_type")
        known = {**self.accounts.readers, **self.accounts.users}
        if kind == "refresh_token":
            user = self.accounts.identity_tokens.get(form.get("refresh_token", ""))
        elif kind == "password":
            name = form.get("username", "")
            user = name if known.get(name) == form.get("password") else None
        else:
            raise Refusal(400, "UNSUPPORTED", "unsupported grant_type")
        if user is None:
            _denied(self.vendor, "incorrect username or password")
        return user

    def _rights(self, user: str | None, scopes: list[str]) -> frozenset[tuple[str, str]]:
        """Return what is granted: less than was asked for is no error, but for GitHub."""
        given: set[tuple[str, str]] = set()
        for text in scopes:
            kind, _, rest = text.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind != "repository" or not name:
                raise Refusal(400, "DENIED", f"invalid scope: {text}")
            for action in actions.split(","):
                if self._allowed(user, name, action):
                    given.add((name, action))
                elif self.vendor.expired_status == 403:
                    _denied(self.vendor, "requested access to the resource is denied")
        return frozenset(given)

    def _allowed(self, user: str | None, repository: str, action: str) -> bool:
        if repository in self.accounts.forbidden:
            return False
        if user is None or user not in self.accounts.users:
            reads = user is not None or self.accounts.public
            return reads and action == "pull"
        return action in {"pull", "push", "delete", "*"}

    # ── judging ─────────────────────────────────────────────────────────────────────────────────

    def check(self, request: Request, repository: str, action: str) -> None:
        """Let a request pass that shows the right token.

        Raises: Refusal.
        """
        if self.vendor.auth == "none" and not self.accounts.users:
            return
        header = request.headers.get("authorization", "")
        if self.vendor.auth == "none":
            self._check_basic(request)
            return
        with self._lock:
            grant = self._grants.get(header.removeprefix("Bearer "))
        shown = header.startswith("Bearer ")
        if not shown or grant is None or grant.until <= self.now():
            self._challenge(repository, action, refused=bool(header))
        if repository and (repository, action) not in grant.rights:
            if self.vendor.expired_status == 403:
                _denied(self.vendor, "permission_denied: write_package")
            self._challenge(repository, action, refused=False)

    def _check_basic(self, request: Request) -> None:
        if not request.headers.get("authorization"):
            refusal = Refusal(401, "UNAUTHORIZED", "authentication required")
            refusal.headers["WWW-Authenticate"] = 'Basic realm="simulator"'
            raise refusal
        self._by_basic(request)

    def _challenge(self, repository: str, action: str, *, refused: bool) -> NoReturn:
        if refused and self.vendor.expired_status == 403:
            _denied(self.vendor, "invalid token")
        rights = "pull,push" if action == "push" else action
        scope = f"repository:{repository}:{rights}" if repository else ""
        if self.vendor.names_placeholder and not repository:
            scope = "repository:user/image:pull"
        words = f'Bearer realm="{self.url}{self.vendor.token_path}",service="simulator"'
        words += f',scope="{scope}"' if scope else ""
        words += ',error="invalid_token"' if refused else ""
        refusal = Refusal(401, "UNAUTHORIZED", "authentication required")
        refusal.headers["WWW-Authenticate"] = words
        raise refusal


def _denied(vendor: Vendor, message: str) -> NoReturn:
    if vendor.expired_status == 403:
        raise Refusal(403, "DENIED", message)
    raise Refusal(401, "UNAUTHORIZED", message)
