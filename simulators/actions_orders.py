"""What a runner is, and what it is ordered to run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulators.actions_feed import Feed
from simulators.actions_git import Mirror
from simulators.actions_job import Table
from simulators.actions_ledger import Ledger, RunEntry
from simulators.actions_process import Cancel
from simulators.actions_workflow import Job, Workflow


@dataclass(kw_only=True)
class Faults:
    """What the operator broke on purpose."""

    paused: bool = False  # no event is taken, as when no runner is online
    no_id_token: bool = False  # the job gets no way to ask for an OIDC token


@dataclass(frozen=True, kw_only=True)
class Runner:
    """This machine as a runner: what every job is given."""

    feed: Feed
    ledger: Ledger
    folders: Mapping[str, Path]
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    environment: Mapping[str, str]  # as a self-hosted runner's `.env` file sets it
    slots: threading.Semaphore
    stop: Cancel
    say: Callable[[str], None]
    keep_work: bool = False
    faults: Faults = field(default_factory=Faults)
    token: str = ""  # reads private repositories, as GitHub's own service can
    live: dict[int, Cancel] = field(default_factory=dict)
    registering: threading.Lock = field(default_factory=threading.Lock)

    def mirror(self, entry: RunEntry) -> Mirror:
        """Open the bare copy of the repository of a run."""
        name = f"{entry.owner}/{entry.repo}"
        folder = self.ledger.state / "mirrors" / name
        return Mirror(folder, f"{self.feed.url}/{name}.git", self.token)


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """One job, or one combination of its matrix, ready to run."""

    entry: RunEntry
    workflow: Workflow
    job: Job
    name: str
    contexts: Table  # github, needs, strategy, matrix, inputs, vars, secrets


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How a job ended, for those that need it."""

    result: str
    outputs: dict[str, str] = field(default_factory=dict)


def tracking_id(ledger: Ledger, entry: RunEntry, name: str) -> str:
    """Name the processes of a job so that they are known after a crash too."""
    text = f"{ledger.state.resolve()}\0{entry.key}\0{name}"
    return "github_" + hashlib.sha256(text.encode()).hexdigest()[:32]
