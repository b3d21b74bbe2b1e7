"""Send one request to GitHub within its limits, and say by type how it failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from github import Auth, Github, GithubException

from cynthus.errors import Refused, Transient

API_VERSION = "2022-11-28"  # https://docs.github.com/rest/about-the-rest-api/api-versions
USER_AGENT = "cynthus"
TIMEOUT_S = 15
PER_PAGE = 100  # the most GitHub gives: fewer requests
# "wait at least one second between each request" that writes:
# https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
WRITE_SPACING = timedelta(seconds=1)
# Without any hint: "wait for at least one minute", then longer and longer; same page.
_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
_OUTAGE = timedelta(seconds=10)  # a first guess; whoever asks backs off from there
_LIMITED = 429
_TOO_MUCH_WAITING = timedelta(hours=2)  # GitHub's window is one hour: more is a broken header


class NotFound(Refused):
    """GitHub says there is no such thing, or that the app may not see it."""


class Invalid(Refused):
    """GitHub refuses what was sent: sending it again unchanged cannot help."""


class Pace:
    """What one installation may still send: spaced writes, and pauses that GitHub ordered."""

    def __init__(self, *, now: Callable[[], datetime], spacing: timedelta) -> None:
        self._now, self._spacing = now, spacing
        self._write_at = datetime.min.replace(tzinfo=UTC)
        self._paused_until = datetime.min.replace(tzinfo=UTC)
        self._strikes = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time by the clock that this pace keeps."""
        return self._now()

    def write_ready_at(self) -> datetime:
        """Return the earliest moment of the next write."""
        with self._lock:
            return max(self._write_at, self._paused_until)

    def reserve(self, *, write: bool) -> float:
        """Take the next place in line; return the seconds until it comes.

        Raises: Transient while GitHub wants silence.
        """
        with self._lock:
            now = self._now()
            if now < self._paused_until:
                raise Transient("GitHub asked us to wait.", retry_at=self._paused_until)
            if not write:
                return 0.0
            begins = max(now, self._write_at)
            self._write_at = begins + self._spacing
            return (begins - now).total_seconds()

    def limited(self, headers: Mapping[str, str]) -> datetime:
        """Note that GitHub refused for its limits; return when it may be asked again."""
        with self._lock:
            now = self._now()
            growing = min(_PAUSE * 2**self._strikes, _LONGEST_PAUSE)
            self._strikes = min(self._strikes + 1, 10)
            until = _told(headers, now) or now + growing
            self._paused_until = max(self._paused_until, until)
            return self._paused_until

    def answered(self, headers: Mapping[str, str]) -> None:
        """Note a good answer; stop before the limit when it says that nothing is left."""
        with self._lock:
            self._strikes = 0
            if headers.get("x-ratelimit-remaining") == "0":
                until = _told(headers, self._now())
                if until is not None:
                    self._paused_until = max(self._paused_until, until)


def _told(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """Read when GitHub wants to be asked again: `retry-after` first, then the window's end."""
    after = headers.get("retry-after", "")
    if after.isdigit():
        return now + min(timedelta(seconds=int(after[:6])), _TOO_MUCH_WAITING)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        until = datetime.fromtimestamp(int(reset[:11]), UTC) + timedelta(seconds=1)
        return min(max(until, now + timedelta(seconds=1)), now + _TOO_MUCH_WAITING)
    return None


@dataclass(frozen=True)
class Answer:
    """A good answer: headers in lower case, the JSON value."""

    headers: Mapping[str, str]
    value: Any


class Door:
    """One identity towards GitHub: requests one after the other, each counted.

    `auth` gives the identity, None: nobody's; with `fresh` it must not
    come from a cache (after a 401).
    """

    def __init__(
        self,
        *,
        api_url: str,
        auth: Callable[[bool], Auth.Auth | None],
        pace: Pace,
        wait: Callable[[float], None],
        count: Callable[[str], None],
    ) -> None:
        self._api_url, self._auth, self._pace = api_url, auth, pace
        self._wait, self._count = wait, count
        self._connection: tuple[Auth.Auth | None, Github] | None = None
        self._lock = threading.Lock()  # GitHub: "make requests serially"
        self._connecting = threading.Lock()

    def get(self, path: str, **parameters: str | int) -> Answer:
        """Read; tried a second time at once when the connection broke."""
        try:
            return self._call("GET", path, parameters=parameters, body=None)
        except _Broken:
            return self._call("GET", path, parameters=parameters, body=None)

    def write(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Write once: what may have happened in spite of an error is the caller's to find out."""
        return self._call(verb, path, parameters={}, body=body)

    def send(self, verb: str, path: str, action: Callable[[Github], tuple[Any, Any]]) -> Answer:
        """Carry out a write that needs more of PyGithub than a JSON request."""
        return self._guarded(verb, path, action)

    def _call(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, str | int],
        body: Mapping[str, Any] | None,
    ) -> Answer:
        def action(connection: Github) -> tuple[Any, Any]:
            return connection.requester.requestJsonAndCheck(
                verb, path, parameters=dict(parameters), input=dict(body) if body else None
            )

        with self._lock:
            return self._guarded(verb, path, action)

    def _guarded(self, verb: str, path: str, action: Callable[[Github], tuple[Any, Any]]) -> Answer:
        try:
            return self._once(verb, path, action, fresh=False)
        except GithubException as error:
            if error.status != requests.codes.unauthorized:
                raise _translated(error, verb, path, self._pace) from error
        # The token ended early, or was withdrawn: one fresh one, one more try.
        try:
            return self._once(verb, path, action, fresh=True)
        except GithubException as error:
            raise _translated(error, verb, path, self._pace) from error

    def _once(
        self, verb: str, path: str, action: Callable[[Github], tuple[Any, Any]], *, fresh: bool
    ) -> Answer:
        connection = self._connected(fresh=fresh)
        delay_s = self._pace.reserve(write=verb != "GET")
        if delay_s > 0:
            self._wait(delay_s)
        self._count(f"{verb} {_shape(path)}")
        try:
            headers, value = action(connection)
        except requests.RequestException as error:
            raise _Broken(f"GitHub did not answer: {type(error).__name__}.") from error
        except GithubException:
            raise
        except (ValueError, RuntimeError, AssertionError) as error:
            # Cut-off JSON, a redirect to another host, an answer that is not HTTP.
            raise Transient(f"GitHub answered {verb} {path} with something unreadable.") from error
        self._pace.answered(headers)
        return Answer(headers, value)

    def _connected(self, *, fresh: bool) -> Github:
        auth = self._auth(fresh)
        with self._connecting:
            if self._connection is None or self._connection[0] is not auth:
                self._connection = (auth, self._connect(auth))
            return self._connection[1]

    def _connect(self, auth: Auth.Auth | None) -> Github:
        return Github(
            auth=auth,
            base_url=self._api_url,
            timeout=TIMEOUT_S,
            user_agent=USER_AGENT,
            per_page=PER_PAGE,
            retry=None,  # PyGithub's own would repeat writes, and sleep up to an hour
            seconds_between_requests=0,  # the pace is ours, across all connections
            seconds_between_writes=0,
            lazy=True,
            api_version=API_VERSION,
        )


class _Broken(Transient):
    """The connection broke: nobody knows whether the request arrived."""


def _translated(error: GithubException, verb: str, path: str, pace: Pace) -> Exception:
    headers = {str(k).lower(): str(v) for k, v in (error.headers or {}).items()}
    message = _message(error)
    place = f"{verb} {path}"
    if error.status == _LIMITED or (error.status == 403 and _is_limit(headers, message)):  # noqa: PLR2004
        return Transient("GitHub's rate limit is reached.", retry_at=pace.limited(headers))
    if error.status >= requests.codes.internal_server_error or error.status == 408:  # noqa: PLR2004
        return Transient(f"GitHub answered {error.status}.", retry_at=pace.now() + _OUTAGE)
    if error.status == requests.codes.unauthorized:
        return Transient(f"GitHub does not take our identity ({message}). See the App's settings.")
    if error.status in (404, 410, 451):
        return NotFound(f"{place}: GitHub knows no such thing, or hides it from us ({message}).")
    if error.status == requests.codes.unprocessable:
        return Invalid(f"{place}: GitHub refuses it: {message}.")
    return Refused(f"{place}: GitHub refuses it with {error.status}: {message}.")


def _is_limit(headers: Mapping[str, str], message: str) -> bool:
    lower = message.lower()
    return (
        "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in lower
        or "abuse detection" in lower
    )


def _message(error: GithubException) -> str:
    data = error.data if isinstance(error.data, dict) else {}
    found = str(data.get("message") or error.message or "no reason given")
    for item in data.get("errors") or []:
        text = item.get("message") or item.get("code") if isinstance(item, dict) else item
        found += f"; {text}"
    return found[:500]


def _shape(path: str) -> str:
    """Return the path without what differs between repositories: a name for the counter."""
    parts = path.partition("?")[0].split("/")
    return "/".join("{}" if part.isdigit() else part for part in parts[:2] + parts[4:])
