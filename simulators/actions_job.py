"""What one job knows while it runs, and what expressions may ask of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simulators.actions_commands import (
    LEVELS,
    MOST_ISSUES,
    Annotation,
    Command,
    Masks,
    annotation,
    plain_annotation,
)
from simulators.actions_expressions import Scope
from simulators.actions_functions import hash_files
from simulators.actions_log import JobLog
from simulators.actions_process import Cancel
from simulators.actions_uses import ActionStore
from simulators.actions_values import Value

Table = dict[str, Value]
_MOST_ANNOTATIONS = 50  # of one job, over all its steps, and of one request to the checks API


@dataclass(kw_only=True)
class StepRecord:
    """What one step, or one step inside a composite action, has said so far."""

    outputs: dict[str, str] = field(default_factory=dict)
    issues: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Frame:
    """Where steps run: the job itself, or inside one composite action."""

    steps: Table = field(default_factory=dict)
    inputs: Value = None
    env: dict[str, str] = field(default_factory=dict)
    github: Table = field(default_factory=dict)  # what the action lays over the job's `github`
    status: str = "success"
    deadline: float | None = None
    root: Path | None = None  # the top folder of the action's repository
    depth: int = 0

    @property
    def composite(self) -> bool:
        """Say whether these are the steps of an action."""
        return self.depth > 0


@dataclass(kw_only=True)
class JobState:
    """Everything that outlives a step of one job."""

    work: Path
    github: Table
    runner: Table
    contexts: Table  # vars, secrets, needs, strategy, matrix, inputs
    env: dict[str, str]
    base_env: dict[str, str]
    oidc: dict[str, str]
    run_defaults: Table
    masks: Masks
    log: JobLog
    cancel: Cancel
    actions: ActionStore
    tracking_id: str
    paths: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        """The folder that `actions/checkout` fills."""
        return Path(str(self.github["workspace"]))

    @property
    def temp(self) -> Path:
        """The folder RUNNER_TEMP."""
        return Path(str(self.runner["temp"]))

    def temp_file(self, prefix: str, suffix: str = "") -> Path:
        """Make a new empty file for the runner's own use."""
        path = self.temp / f"{prefix}{uuid.uuid4()}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def issue(self, record: StepRecord, command: Command) -> None:
        """Keep an error, warning or notice, up to the runner's limit for one step."""
        self.log.say(f"##[{command.name}]{command.data}")
        record.issues[command.name] = record.issues.get(command.name, 0) + 1
        if record.issues[command.name] <= MOST_ISSUES and len(self.annotations) < _MOST_ANNOTATIONS:
            self.annotations.append(annotation(_masked(command, self.masks)))

    def error(self, message: str) -> None:
        """Add an error of the runner's own."""
        self.log.say(f"##[error]{message}")
        # An error of the runner's own says why the job failed: it takes the last place.
        del self.annotations[_MOST_ANNOTATIONS - 1 :]
        self.annotations.append(plain_annotation("error", self.masks.hide(message)))


def _masked(command: Command, masks: Masks) -> Command:
    assert command.name in LEVELS
    properties = {key: masks.hide(value) for key, value in command.properties.items()}
    return Command(command.name, properties, masks.hide(command.data))


def step_scope(job: JobState, frame: Frame, env: dict[str, str]) -> Scope:
    """Say what the expressions of a step may ask.

    https://docs.github.com/en/actions/reference/workflows-and-actions/contexts#context-availability
    """
    github = job.github | frame.github | {"action_status": frame.status}
    contexts: Table = {
        "github": github,
        "env": dict(env),
        "steps": frame.steps,
        "job": {"status": frame.status, "check_run_id": job.contexts["job"]["check_run_id"]},
        "runner": job.runner,
        "strategy": job.contexts["strategy"],
        "matrix": job.contexts["matrix"],
        "inputs": frame.inputs,
    }
    if not frame.composite:  # an action sees what it is given, not the caller's secrets
        contexts |= {name: job.contexts[name] for name in ("needs", "secrets", "vars")}
    return Scope(contexts=contexts, functions=_functions(job, frame))


def _functions(job: JobState, frame: Frame) -> dict[str, Callable[..., Value]]:
    cancelled = job.cancel.is_set
    return {
        "success": lambda: frame.status == "success" and not cancelled(),
        "failure": lambda: frame.status == "failure" and not cancelled(),
        "cancelled": cancelled,
        "always": lambda: True,
        "hashfiles": partial(hash_files, job.workspace),
    }
