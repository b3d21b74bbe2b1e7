"""Talk to the GitHub simulator: take events, register jobs, report how they went."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, NoReturn

_LONG_POLL_S = 20  # the feed answers at once when there is something
_ANSWER_S = 15  # loopback: whoever takes longer is not coming back
_TRIES = 40  # with the pause below: a restart of the GitHub simulator is survived
_PAUSE_S = 0.5


class FeedError(Exception):
    """The GitHub simulator refused a request, or stayed away too long."""


@dataclass(frozen=True)
class Event:
    """One thing that happened on GitHub."""

    seq: int
    event: str
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What GitHub hands to the runner with a job."""

    run_id: int
    run_number: int
    run_attempt: int
    job_id: int
    check_run_id: int
    github_token: str
    id_token_request_url: str
    id_token_request_token: str

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> Registered:
        """Read the answer; members that are not known yet are left alone."""
        # Without the permission GitHub hands out no way to an id token: null.
        known: dict[str, Any] = {name: answer[name] for name in cls.__dataclass_fields__}
        filled: dict[str, Any] = {n: "" if value is None else value for n, value in known.items()}
        return cls(**filled)


class Feed:
    """One GitHub simulator."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def events(self, after: int, *, wait: bool) -> list[Event]:
        """Take what happened after a number; `wait` stays on the line until something does."""
        seconds = _LONG_POLL_S if wait else 0
        path = f"/_sim/events?after={after}&wait={seconds}"
        answer = self._send("GET", path, None, seconds + _ANSWER_S)
        return [Event(int(one["seq"]), one["event"], one["payload"]) for one in answer]

    def register(self, request: dict[str, Any]) -> Registered:
        """Announce a job, and get its ids and tokens."""
        return Registered.from_json(self._patient("POST", "/_sim/workflow_jobs", request))

    def report(self, job_id: int, report: dict[str, Any]) -> None:
        """Say how a job stands."""
        self._patient("PATCH", f"/_sim/workflow_jobs/{job_id}", report)

    def _patient(self, method: str, path: str, body: dict[str, Any]) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return self._send(method, path, body, _ANSWER_S)
            except OSError:
                time.sleep(_PAUSE_S)
        try:
            return self._send(method, path, body, _ANSWER_S)
        except OSError as fault:
            raise FeedError(f"{method} {self.url}{path}: no answer ({fault})") from fault

    def _send(self, method: str, path: str, body: Any, timeout: float) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the URL is the operator's own
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as fault:
            _refused(method, path, fault)
        return json.loads(text) if text else None


def _refused(method: str, path: str, fault: urllib.error.HTTPError) -> NoReturn:
    said = fault.read(2000).decode(errors="replace")
    if fault.code >= 500:
        raise ConnectionError(f"{method} {path}: {fault.code} {said}") from fault
    raise FeedError(f"{method} {path}: {fault.code} {said}") from fault
