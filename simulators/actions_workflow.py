"""Turn workflow and action files into data, refusing what GitHub refuses.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.actions_values import Value, to_text
from simulators.actions_yaml import YamlError, load

Table = Mapping[str, Value]

_WORKFLOW_KEYS = {"name", "run-name", "on", "env", "defaults", "permissions", "concurrency", "jobs"}
_JOB_KEYS = {
    "name", "needs", "if", "runs-on", "env", "defaults", "permissions", "concurrency", "outputs",
    "strategy", "steps", "timeout-minutes", "continue-on-error", "container", "services", "uses",
    "with", "secrets", "environment",
}  # fmt: skip
_STEP_KEYS = {
    "id", "name", "if", "uses", "run", "with", "env", "shell", "working-directory",
    "continue-on-error", "timeout-minutes",
}  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z", re.ASCII)
_DEFAULT_JOB_MINUTES = 360  # GitHub's own default and limit


class WorkflowError(Exception):
    """A workflow or action file that GitHub would not start."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, its values still unevaluated."""

    id: str = ""
    name: str = ""
    condition: str = ""
    uses: str = ""
    run: str = ""
    with_: Table = field(default_factory=dict)
    env: Value = field(default_factory=dict)
    shell: str = ""
    working_directory: str = ""
    continue_on_error: Value = False
    timeout_minutes: Value = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, its values still unevaluated."""

    key: str
    name: str
    needs: tuple[str, ...]
    condition: str
    env: Value
    run_defaults: Table
    permissions: Value
    outputs: Table
    strategy: Value
    steps: tuple[Step, ...]
    timeout_minutes: Value
    continue_on_error: Value
    concurrency: Value
    unsupported: str


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """One workflow file."""

    path: str
    name: str
    on: Table
    env: Value
    concurrency: Value
    jobs: Mapping[str, Job]


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action file; only composite ones carry steps."""

    name: str
    inputs: Table
    outputs: Table
    using: str
    steps: tuple[Step, ...]


def parse_workflow(path: str, text: str) -> Workflow:
    """Read a workflow file."""
    try:
        document = load(text)
    except YamlError as fault:
        raise WorkflowError(str(fault)) from fault
    table = _table(document, "the workflow")
    _refuse_unknown(table, _WORKFLOW_KEYS, path)
    if "on" not in table:
        raise WorkflowError("No event triggers defined in `on`")
    jobs = _table(table.get("jobs"), "jobs")
    if not jobs:
        raise WorkflowError("Required property is missing: jobs")
    parsed = {
        str(key): _job(str(key), _table(job, f"jobs.{key}"), table) for key, job in jobs.items()
    }
    _check_needs(parsed)
    return Workflow(
        path=path,
        name=str(table.get("name") or path),
        on=_events(table["on"]),
        env=table.get("env") or {},
        concurrency=table.get("concurrency"),
        jobs=parsed,
    )


def _table(value: Value, place: str) -> dict[str, Value]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WorkflowError(f"{place}: A mapping was expected")
    return {to_text(key): item for key, item in value.items()}


def _refuse_unknown(table: Table, known: set[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise WorkflowError(f"{place}: Unexpected value '{key}'")


def _events(on: Value) -> dict[str, Value]:
    if isinstance(on, str):
        return {on: {}}
    if isinstance(on, list):
        return {str(name): {} for name in on}
    return {name: value or {} for name, value in _table(on, "on").items()}


def _job(key: str, table: Table, workflow: Table) -> Job:
    place = f"jobs.{key}"
    _refuse_unknown(table, _JOB_KEYS, place)
    if not _IDENTIFIER.match(key):
        raise WorkflowError(f"The identifier '{key}' is invalid. IDs may only contain alphanumeric characters, '_', and '-'. IDs must start with a letter or '_' and must be less than 100 characters.")  # fmt: skip # noqa: E501 - GitHub's own words
    if "runs-on" not in table and "uses" not in table:
        raise WorkflowError(f"{place}: Required property is missing: runs-on")
    steps = tuple(
        _step(_table(step, f"{place}.steps[{number}]"), f"{place}.steps[{number}]")
        for number, step in enumerate(table.get("steps") or ())
    )
    if not steps and "uses" not in table:
        raise WorkflowError(f"{place}: Required property is missing: steps")
    return Job(
        key=key,
        name=str(table.get("name") or ""),
        needs=_names(table.get("needs")),
        condition=_condition(table),
        env=table.get("env") or {},
        run_defaults=_run_defaults(workflow) | _run_defaults(table),
        permissions=_permissions(table.get("permissions", workflow.get("permissions")), place),
        outputs=_table(table.get("outputs"), f"{place}.outputs"),
        strategy=table.get("strategy") or {},
        steps=steps,
        timeout_minutes=table.get("timeout-minutes", _DEFAULT_JOB_MINUTES),
        continue_on_error=table.get("continue-on-error", False),
        concurrency=table.get("concurrency"),
        unsupported=next((k for k in ("container", "services", "uses") if table.get(k)), ""),
    )


def _permissions(value: Value, place: str) -> Value:
    if isinstance(value, (dict, type(None))) or value in {"read-all", "write-all"}:
        return value
    raise WorkflowError(f"{place}.permissions: Unexpected value '{to_text(value)}'")


def _names(value: Value) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _condition(table: Table) -> str:
    return to_text(table["if"]) if table.get("if") is not None else ""


def _run_defaults(table: Table) -> dict[str, Value]:
    return _table(_table(table.get("defaults"), "defaults").get("run"), "defaults.run")


def _step(table: Table, place: str) -> Step:
    _refuse_unknown(table, _STEP_KEYS, place)
    if ("run" in table) == ("uses" in table):
        raise WorkflowError(f"{place}: Required property is missing: {'uses' if 'run' not in table else 'only one of run, uses'}")  # fmt: skip # noqa: E501
    identifier = str(table.get("id") or "")
    if identifier and not _IDENTIFIER.match(identifier):
        raise WorkflowError(f"{place}: The identifier '{identifier}' is invalid")
    return Step(
        id=identifier,
        name=to_text(table.get("name")),
        condition=_condition(table),
        uses=to_text(table.get("uses")),
        run=to_text(table.get("run")),
        with_=_table(table.get("with"), f"{place}.with"),
        env=table.get("env") or {},
        shell=to_text(table.get("shell")),
        working_directory=to_text(table.get("working-directory")),
        continue_on_error=table.get("continue-on-error", False),
        timeout_minutes=table.get("timeout-minutes"),
    )


def _check_needs(jobs: Mapping[str, Job]) -> None:
    for job in jobs.values():
        for need in job.needs:
            if need not in jobs:
                raise WorkflowError(f"Job '{job.key}' depends on unknown job '{need}'.")
    done: set[str] = set()
    while ready := [job for job in jobs.values() if job.key not in done and done >= set(job.needs)]:
        done |= {job.key for job in ready}
    if len(done) < len(jobs):
        raise WorkflowError("The workflow must contain at least one job with no dependencies.")


def parse_action(text: str, place: str) -> Action:
    """Read an action file: https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax."""
    try:
        table = _table(load(text), place)
        runs = _table(table.get("runs"), f"{place}: runs")
    except YamlError as fault:
        raise WorkflowError(f"{place}: {fault}") from fault
    using = str(runs.get("using") or "")
    if not using:
        raise WorkflowError(f"{place}: Required property is missing: runs.using")
    steps = runs.get("steps") or () if using == "composite" else ()
    return Action(
        name=to_text(table.get("name")),
        inputs=_table(table.get("inputs"), f"{place}: inputs"),
        outputs=_table(table.get("outputs"), f"{place}: outputs"),
        using=using,
        steps=tuple(_composite_step(step, f"{place}: steps[{n}]") for n, step in enumerate(steps)),
    )


def _composite_step(step: Value, place: str) -> Step:
    table = _table(step, place)
    if "timeout-minutes" in table:
        raise WorkflowError(f"{place}: Unexpected value 'timeout-minutes'")
    if "run" in table and "shell" not in table:
        raise WorkflowError(f"{place}: Required property is missing: shell")
    return _step(table, place)
