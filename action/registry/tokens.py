"""Get and keep what a registry wants to be shown: Basic, or tokens by scope.

https://distribution.github.io/distribution/spec/auth/token/ and …/spec/auth/oauth/
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlencode, urlsplit

from action.registry.challenge import Challenge
from action.registry.connections import LONGEST_ANSWER, Answer, Body, Request, body_of
from action.registry.reference import is_loopback

_SHORTEST_LIFE_S = 60.0  # what a token lives when its service does not say: the token page above
_LONGEST_LIFE_S = 86_400.0  # longer than any job; a number of 400 digits is no float
_MARGIN_S = 15.0  # it must still be good when the request that carries it arrives
_LONGEST_TOKEN = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who we are for one registry. Its repr tells nothing."""

    username: str = field(repr=False)
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")  # a refresh token from `docker login`

    @property
    def basic(self) -> str:
        """Return the header for Basic."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, kw_only=True)
class Token:
    """A bearer token and when it ends by the clock of `Tokens`."""

    text: str = field(repr=False)
    until: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a request carries, and whether it was got for this very request."""

    header: str = field(repr=False)
    fresh: bool


class BadRealmError(Exception):
    """The registry names a token service that must not be told a login."""


class Tokens:
    """What one registry is shown, shared by threads; each scope's token is asked for once."""

    def __init__(
        self, host: str, credentials: Credentials | None, clock: Callable[[], float]
    ) -> None:
        self._host, self.credentials, self._clock = host, credentials, clock
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], Token] = {}
        self._asking: dict[tuple[str, ...], threading.Lock] = {}

    def learn(self, challenge: Challenge) -> None:
        """Remember what the registry wants."""
        with self._lock:
            self._challenge = challenge

    def forget(self, scopes: tuple[str, ...], shown: Shown | None) -> None:
        """Drop a token that was refused, unless another thread has got a new one already."""
        with self._lock:
            kept = self._tokens.get(scopes)
            if kept is not None and shown is not None and shown.header == f"Bearer {kept.text}":
                del self._tokens[scopes]

    def shown(self, scopes: tuple[str, ...], send: Callable[[Request], Answer]) -> Shown | None:
        """Return what to show for these scopes; None: nothing, or nothing is known yet.

        `send` carries the request to the token service and raises what it will on a refusal.
        """
        with self._lock:
            challenge = self._challenge
            asking = self._asking.setdefault(scopes, threading.Lock())
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            login = self.credentials
            return Shown(header=login.basic, fresh=True) if login else None
        with asking:
            kept = self._kept(scopes)
            token = kept or self._ask(challenge, scopes, send)
            with self._lock:
                self._tokens[scopes] = token
        return Shown(header=f"Bearer {token.text}", fresh=kept is None) if token.text else None

    def _kept(self, scopes: tuple[str, ...]) -> Token | None:
        with self._lock:
            token = self._tokens.get(scopes)
        return token if token is not None and self._clock() < token.until else None

    def _ask(
        self, challenge: Challenge, scopes: tuple[str, ...], send: Callable[[Request], Answer]
    ) -> Token:
        asked_at = self._clock()
        with send(token_request(self._host, challenge, scopes, self.credentials)) as answer:
            return read_token(answer.read(LONGEST_ANSWER), asked_at)


def token_request(
    host: str, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
) -> Request:
    """Return the request for a token: a GET, or OAuth's POST for a login by identity token.

    Raises: BadRealmError: no address, or plain http, which is for this machine's own registry only.
    """
    parts = _realm_parts(challenge.realm)
    plain = parts.scheme == "http" and is_loopback(parts.netloc) and is_loopback(host)
    if not parts.netloc or "@" in parts.netloc or not (parts.scheme == "https" or plain):
        raise BadRealmError(f"{parts.scheme}://{parts.netloc}")
    if credentials is not None and credentials.identity_token:
        return _refresh(challenge, scopes, credentials.identity_token)
    words = [("service", challenge.service)] if challenge.service else []
    words += [("scope", scope) for scope in scopes]
    if credentials is not None:
        words.append(("account", credentials.username))
    mark = "&" if parts.query else "?"
    headers = {"Authorization": credentials.basic} if credentials is not None else {}
    return Request(method="GET", url=f"{challenge.realm}{mark}{urlencode(words)}", headers=headers)


def _realm_parts(realm: str) -> SplitResult:
    # `urlsplit` drops tabs and line ends without a word: what is sent would be another address.
    if not re.fullmatch(r"[\x21-\x7e]+", realm):
        raise BadRealmError("an address with signs that none has")
    try:
        return urlsplit(realm)
    except ValueError as error:
        raise BadRealmError("an address that cannot be read") from error


def _refresh(challenge: Challenge, scopes: tuple[str, ...], identity_token: str) -> Request:
    form = {
        "grant_type": "refresh_token",
        "service": challenge.service,
        "client_id": "cynthus",
        "scope": " ".join(scopes),
        "refresh_token": identity_token,
    }
    body: Body = body_of(urlencode(form).encode())
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request(method="POST", url=challenge.realm, headers=headers, body=body)


def read_token(content: bytes, asked_at: float) -> Token:
    """Return the token in an answer; an empty one when there is none.

    `expires_in` counts from when the service made it, so the time of asking is the safe start.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Token(text="", until=asked_at)
    text = found.get("token") or found.get("access_token")
    if not isinstance(text, str) or len(text) > _LONGEST_TOKEN or not text.isprintable():
        return Token(text="", until=asked_at)
    life = found.get("expires_in")
    seconds = _SHORTEST_LIFE_S
    if isinstance(life, int | float) and life > 0:
        seconds = float(min(life, _LONGEST_LIFE_S))
    return Token(text=text, until=asked_at + seconds - min(_MARGIN_S, seconds / 4))
