"""Send one request to GitHub within its limits, and say by type how it failed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import requests
from github import Auth, Github, GithubException

from cynthus.errors import Refused, Transient
from webhook_server import metrics
from webhook_server.github_api.kept_answers import KeptAnswer, KeptAnswers
from webhook_server.github_api.pace import Pace
from webhook_server.metrics import METERS, timed

API_VERSION = "2022-11-28"  # https://docs.github.com/rest/about-the-rest-api/api-versions
USER_AGENT = "cynthus"
TIMEOUT_S = 15
PER_PAGE = 100  # the most GitHub gives: fewer requests
_LIMITED = 429


class NotFound(Refused):
    """GitHub says there is no such thing, or that the app may not see it."""


class Invalid(Refused):
    """GitHub refuses what was sent: sending it again unchanged cannot help."""


@dataclass(frozen=True)
class Answer:
    """A good answer: headers in lower case, the JSON value."""

    headers: Mapping[str, str]
    value: Any


def connected(api_url: str, auth: Auth.Auth | None) -> Github:
    """Return PyGithub over HTTP, as this identity; nothing is sent yet."""
    return Github(
        auth=auth,
        base_url=api_url,
        timeout=TIMEOUT_S,
        user_agent=USER_AGENT,
        per_page=PER_PAGE,
        retry=None,  # PyGithub's own would repeat writes, and sleep up to an hour
        seconds_between_requests=0,  # the pace is ours, across all connections
        seconds_between_writes=0,
        lazy=True,
        api_version=API_VERSION,
    )


@dataclass(frozen=True, kw_only=True)
class Way:
    """How requests travel, and how they wait for one another."""

    connect: Callable[[str, Auth.Auth | None], Github] = connected
    lock: Callable[[], AbstractContextManager[Any]] = threading.Lock


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How one identity behaves towards GitHub, and what it remembers."""

    pace: Pace
    wait: Callable[[float], None]
    count: Callable[[str], None]
    kept: KeptAnswers
    way: Way = field(default_factory=Way)


class Door:
    """One identity towards GitHub: requests one after the other, each counted.

    `auth` gives the identity, None: nobody's; with `fresh` it must not
    come from a cache (after a 401).
    """

    def __init__(
        self, *, api_url: str, auth: Callable[[bool], Auth.Auth | None], manners: Manners
    ) -> None:
        self._api_url, self._auth = api_url, auth
        self._pace, self._wait = manners.pace, manners.wait
        self._count, self._kept, self._connect = manners.count, manners.kept, manners.way.connect
        self._connection: tuple[Auth.Auth | None, Github] | None = None
        self._lock = manners.way.lock()  # GitHub: "make requests serially"
        self._connecting = threading.Lock()

    def get(self, path: str, **parameters: str | int) -> Answer:
        """Read; tried a second time at once when the connection broke.

        What was read before is asked for by its tag: unchanged, it costs nothing of the hour.
        """
        try:
            return self._read(path, parameters)
        except _Broken:  # mostly a connection that GitHub had closed since: no trouble yet
            return self._noting(lambda: self._read(path, parameters))

    def _read(self, path: str, parameters: Mapping[str, str | int]) -> Answer:
        key = (id(self), path, tuple(sorted(parameters.items())))
        known = self._kept.get(key)
        answer = self._call("GET", path, parameters=parameters, body=None, known=known)
        if known is not None and answer.value is None:  # 304: an answer of 200 is never empty
            return Answer(answer.headers, copy.deepcopy(known.value))
        self._kept.keep(key, dict(answer.headers), copy.deepcopy(answer.value))
        return answer

    def write(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Write once: what may have happened in spite of an error is the caller's to find out."""
        return self._noting(lambda: self._call(verb, path, parameters={}, body=body))

    def send(self, verb: str, path: str, action: Callable[[Github], tuple[Any, Any]]) -> Answer:
        """Carry out a write that needs more of PyGithub than a JSON request."""
        return self._noting(lambda: self._guarded(verb, path, action))

    def _noting(self, work: Callable[[], Answer]) -> Answer:
        """Do the work; a connection that breaks counts towards an outage."""
        try:
            return work()
        except _Broken as error:
            raise _Broken(str(error), retry_at=self._pace.troubled()) from error

    def _call(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, str | int],
        body: Mapping[str, Any] | None,
        known: KeptAnswer | None = None,
    ) -> Answer:
        def action(connection: Github) -> tuple[Any, Any]:
            return connection.requester.requestJsonAndCheck(
                verb,
                path,
                parameters=dict(parameters),
                headers={"If-None-Match": known.etag} if known else None,
                input=dict(body) if body else None,
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
        delay_s = self._pace.reserve(write=verb != "GET", content=_notifies(verb, path))
        if delay_s > 0:
            self._wait(delay_s)
        self._count(f"{verb} {_shape(path)}")
        try:
            with timed(metrics.GITHUB_SECONDS):
                headers, value = action(connection)
        except requests.RequestException as error:
            METERS.add(metrics.GITHUB_FAILURES, how="away")
            raise _Broken(f"GitHub did not answer: {type(error).__name__}.") from error
        except GithubException:
            raise
        except (ValueError, RuntimeError, AssertionError) as error:
            # Cut-off JSON, a redirect to another host, an answer that is not HTTP.
            why = f"GitHub answered {verb} {path} with something unreadable."
            raise Transient(why, retry_at=self._pace.troubled()) from error
        self._pace.answered(headers)
        return Answer(headers, value)

    def _connected(self, *, fresh: bool) -> Github:
        auth = self._auth(fresh)
        with self._connecting:
            if self._connection is None or self._connection[0] is not auth:
                self._connection = (auth, self._connect(self._api_url, auth))
            return self._connection[1]


class _Broken(Transient):
    """The connection broke: nobody knows whether the request arrived."""


def _translated(error: GithubException, verb: str, path: str, pace: Pace) -> Exception:
    translated = _sorted(error, verb, path, pace)
    METERS.add(metrics.GITHUB_FAILURES, how=_how(error, translated))
    return translated


def _how(error: GithubException, translated: Exception) -> str:
    if isinstance(translated, NotFound):
        return "not_found"
    if isinstance(translated, Transient):
        return "away" if error.status >= requests.codes.internal_server_error else "limited"
    return "refused"


def _sorted(error: GithubException, verb: str, path: str, pace: Pace) -> Exception:
    headers = {str(k).lower(): str(v) for k, v in (error.headers or {}).items()}
    message = _message(error)
    place = f"{verb} {path}"
    if error.status == _LIMITED or (error.status == 403 and _is_limit(headers, message)):  # noqa: PLR2004
        return Transient("GitHub's rate limit is reached.", retry_at=pace.limited(headers))
    if error.status >= requests.codes.internal_server_error or error.status == 408:  # noqa: PLR2004
        return Transient(f"GitHub answered {error.status}.", retry_at=pace.troubled())
    pace.answered(headers)
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


def _notifies(verb: str, path: str) -> bool:
    """Say whether a request makes something that GitHub tells people of, and counts apart.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
    """
    return verb == "POST" and path.endswith(("/comments", "/releases"))


#: All words of GitHub's addresses that we use; whatever else stands in one was chosen by somebody.
_WORDS = frozenset(
    {
        "access_tokens",
        "annotations",
        "app",
        "app-manifests",
        "assets",
        "attempts",
        "branches",
        "check-runs",
        "check-suites",
        "collaborators",
        "comments",
        "commits",
        "compare",
        "config",
        "contents",
        "conversions",
        "deliveries",
        "dispatches",
        "files",
        "git",
        "heads",
        "hook",
        "installation",
        "installations",
        "issues",
        "latest",
        "matching-refs",
        "meta",
        "permission",
        "pulls",
        "rate_limit",
        "reactions",
        "ref",
        "refs",
        "releases",
        "repos",
        "tags",
        "user",
        "users",
    }
)


def _shape(path: str) -> str:
    """Return the address without what people and GitHub put into it: one of a few dozen.

    It is a label of a metric: a branch's or a person's name would make a new one each time, and
    show it to whoever looks at metrics.
    """
    parts = path.partition("?")[0].strip("/").split("/")
    words = parts[:1] + parts[3:] if parts[0] == "repos" else parts  # without owner and name
    shown = [part if part in _WORDS else "{}" for part in words]
    told = [part for at, part in enumerate(shown) if part != "{}" or shown[at - 1 : at] != ["{}"]]
    return "/" + "/".join(told)
