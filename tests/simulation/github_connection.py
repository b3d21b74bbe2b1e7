"""Stand where PyGithub stands: each request of ours reaches the GitHub in memory, or fails."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests
from github import Auth, GithubException

from tests.simulation.github import Github
from tests.simulation.github_rest import Refusal, answer

T = TypeVar("T")
API_URL = "https://api.github.test"


class Call(Protocol):
    """A call to the outside that may fail: `fates.call`."""

    def __call__(
        self,
        kind: str,
        do: Callable[[], T],
        *,
        refused: Callable[[], Exception],
        lost: Callable[[], Exception],
    ) -> T:
        """Carry out `do` as this call's fate will have it."""


class Connection:
    """What `Door` asks of PyGithub: `connection.requester.requestJsonAndCheck` and its like.

    It stands below everything that is ours, so that the real door, the real translation of
    refusals and the real pace are at work above it.
    """

    def __init__(
        self, github: Github, call: Call, chance: random.Random, auth: Auth.Auth | None
    ) -> None:
        self._github, self._call, self._chance = github, call, chance
        self._token = auth.token if isinstance(auth, Auth.Token) else None  # None: the app itself
        self.requester = self

    def requestJsonAndCheck(  # noqa: N802 - PyGithub's name
        self,
        verb: str,
        url: str,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,  # noqa: ARG002 - there are no tags here
        input: Mapping[str, Any] | None = None,  # noqa: A002 - PyGithub's name
    ) -> tuple[Mapping[str, str], Any]:
        """Send a request with a JSON body."""
        return self._sent(verb, url, parameters or {}, input, b"")

    def requestMemoryBlobAndCheck(  # noqa: N802 - PyGithub's name and members
        self,
        verb: str,
        url: str,
        parameters: Mapping[str, Any],
        headers: Mapping[str, Any],  # noqa: ARG002
        file_like: Any,
        cnx: Any,  # noqa: ARG002
    ) -> tuple[Mapping[str, str], Any]:
        """Send a file."""
        return self._sent(verb, urlsplit(url).path, parameters, None, b"".join(file_like))

    def _sent(
        self,
        verb: str,
        path: str,
        parameters: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        data: bytes,
    ) -> tuple[Mapping[str, str], Any]:
        def do() -> tuple[Mapping[str, str], Any]:
            try:
                value = answer(
                    self._github,
                    verb,
                    path,
                    token=self._token,
                    parameters=parameters,
                    body=body,
                    data=data,
                )
            except Refusal as refusal:
                raise GithubException(
                    refusal.status, {"message": refusal.message}, {}, refusal.message
                ) from refusal
            return {}, value

        kind = f"github.{verb} {shape(path)}"
        return self._call(kind, do, refused=self._refusal, lost=self._lost)

    def _refusal(self) -> Exception:
        """Return one of GitHub's ways to say "not now".

        https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
        """
        wait_s = str(self._chance.choice([1, 20, 60]))
        return self._chance.choice(
            [
                GithubException(503, {"message": "Service Unavailable"}, {}),
                GithubException(502, {"message": "Bad Gateway"}, {}),
                GithubException(429, {"message": "slow down"}, {"retry-after": wait_s}),
                GithubException(403, {"message": "secondary rate limit"}, {"retry-after": wait_s}),
                GithubException(401, {"message": "Bad credentials"}, {}),
            ]
        )

    def _lost(self) -> Exception:
        return self._chance.choice(
            [
                requests.ReadTimeout("no answer"),
                requests.ConnectionError("reset by peer"),
                ValueError("an answer that is cut off"),
            ]
        )


def shape(path: str) -> str:
    """Return the path without what differs between repositories: a name of the kind of call."""
    parts = path.removeprefix("/repos/").split("/")
    rest = parts[2:] if path.startswith("/repos/") else parts
    return "/".join("{}" if re.fullmatch(r"\d+|[0-9a-f]{40}", part) else part for part in rest)


class Turns:
    """A lock for what waits in virtual time: a thread's lock would stop the whole world."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait, self._held = wait, False

    def __enter__(self) -> None:
        while self._held:
            self._wait(0.1)  # a request takes longer than this
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


def turns(wait: Callable[[float], None]) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes such locks."""
    return lambda: Turns(wait)
