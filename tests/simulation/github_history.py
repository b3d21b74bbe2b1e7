"""A history as GitHub and the database have it at its end: the data that oracles compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.simulation.github import CheckRow, Sent, Shown


@dataclass(frozen=True, kw_only=True)
class RunSeen:
    """A run as the database has it."""

    id: str
    repository_id: int
    sha: str
    trigger: str
    path: str = "cynthus.yaml"
    event: str = "push"
    state: str = "finished"
    outcome: str | None = "succeeded"
    created_at: datetime  # by the true clock
    ordered_at: datetime | None = None  # when its first instance was ordered, by the true clock
    asked_by: str | None = None
    fork: bool = False
    reproduces: str | None = None
    retries: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    image: str | None = None
    spec_text: str = ""
    approved_by: str | None = None
    approved_sha: str | None = None
    cancelled_by: str | None = None
    pull_request: int | None = None
    outputs: tuple[tuple[str, int, str], ...] = ()  # path, bytes, SHA-256


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the publisher's."""

    subject: str
    kind: str
    state: str
    external_id: int | None = None
    due: bool = False


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A heartbeat that an agent's door took."""

    at: datetime
    instance: str  # whose it was taken for
    token_of: str  # the instance that the token was given to
    closed: bool  # the instance was closed before


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run request of the Action's that was answered 2xx."""

    at: datetime
    repository_id: int
    sha: str
    trigger: str
    image: str


@dataclass(frozen=True, kw_only=True)
class GithubHistory:
    """What happened. `healed`: faults have stopped long enough ago for all to be right again."""

    log: Sequence[Shown] = ()
    deliveries: Sequence[Sent] = ()
    check_runs: Sequence[tuple[int, CheckRow]] = ()  # with the repository's id
    commits: Mapping[tuple[int, str], Mapping[str, bytes]] = field(default_factory=dict)
    runs: Sequence[RunSeen] = ()
    stored: Mapping[str, str] = field(default_factory=dict)  # guid → the delivery's state
    published: Sequence[Published] = ()
    beats: Sequence[Beat] = ()
    submitted: Sequence[Submitted] = ()
    manifests: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # by release id
    healed: bool = True

    def run(self, run_id: str) -> RunSeen | None:
        """Return the run of this id."""
        return next((run for run in self.runs if run.id == run_id), None)

    def shown(self, *what: str) -> list[Shown]:
        """Return GitHub's own log of these."""
        return [one for one in self.log if one.what in what]
