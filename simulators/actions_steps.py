"""Carry out steps: conditions, environments, outcomes, composite actions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from simulators.actions_builtin import BUILT_IN_ACTIONS, BuiltInError
from simulators.actions_expressions import Scope, condition, fill, render, template
from simulators.actions_job import Frame, JobState, StepRecord, step_scope
from simulators.actions_scripts import ScriptCall, run_script
from simulators.actions_syntax import ExpressionError
from simulators.actions_uses import BUILT_IN, Located, UsesError, load_action, parse_remote
from simulators.actions_values import Value, to_number, to_text, truthy
from simulators.actions_workflow import Action, Step

_DEEPEST = 10  # composite actions inside each other, as on GitHub


def run_steps(job: JobState, frame: Frame, steps: Sequence[Step]) -> None:
    """Run steps in order; the frame's status says how they went."""
    taken: dict[str, int] = {}
    for step in steps:
        frame.github["action"] = _action_name(step, taken)
        _run_step(job, frame, step)


def _action_name(step: Step, taken: dict[str, int]) -> str:
    """Name a step as GITHUB_ACTION does: its id, or `__run`, `__run_2`, `__owner_repo`."""
    if step.id:
        return step.id
    name = "__run" if step.run else "__self"
    if step.uses and not step.uses.startswith("."):
        name = "__" + step.uses.partition("@")[0].replace("/", "_")
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"


def _run_step(job: JobState, frame: Frame, step: Step) -> None:
    record = StepRecord()
    try:
        outcome = _outcome(job, frame, step, record)
        forgiven = outcome == "failure" and _forgives(job, frame, step)
    except (ExpressionError, UsesError, BuiltInError, OSError) as fault:
        job.error(str(fault))
        outcome, forgiven = "failure", _forgives(job, frame, step, broken=True)
    conclusion = "success" if forgiven else outcome
    if step.id:
        frame.steps[step.id] = {
            "outputs": dict(record.outputs),
            "outcome": outcome,
            "conclusion": conclusion,
        }
    if conclusion in {"failure", "cancelled"} and frame.status == "success":
        frame.status = conclusion


def _forgives(job: JobState, frame: Frame, step: Step, *, broken: bool = False) -> bool:
    if isinstance(step.continue_on_error, bool) or broken:
        return step.continue_on_error is True
    scope = step_scope(job, frame, job.env | frame.env)
    return truthy(fill(step.continue_on_error, scope))


def _outcome(job: JobState, frame: Frame, step: Step, record: StepRecord) -> str:
    outer = job.env | frame.env
    own = texts(fill(step.env, step_scope(job, frame, outer)))
    scope = step_scope(job, frame, outer | own)
    if not condition(step.condition, scope):
        return "skipped"
    deadline = _deadline(frame, step, scope)
    inner = replace(frame, env=frame.env | own, deadline=deadline)
    name = display_name(step, scope)
    outcome = (_run if step.run else _use)(job, inner, step, record)
    if outcome == "timeout":
        job.error(
            f"The action '{name}' has timed out after {to_text(step.timeout_minutes)} minutes."
        )
        return "failure"
    return outcome


def _deadline(frame: Frame, step: Step, scope: Scope) -> float | None:
    if step.timeout_minutes is None:
        return frame.deadline
    own = time.monotonic() + 60 * to_number(fill(step.timeout_minutes, scope))
    return own if frame.deadline is None else min(own, frame.deadline)


def display_name(step: Step, scope: Scope) -> str:
    """Name a step as the web page does."""
    if step.name:
        return render(step.name, scope)
    if step.uses:
        return f"Run {step.uses}"
    lines = render(step.run, scope).strip().splitlines() or [""]
    return f"Run {lines[0]}"


def texts(values: Value) -> dict[str, str]:
    """Turn an evaluated `env` or `with` mapping into texts."""
    if values is None or values == "":
        return {}
    if not isinstance(values, dict):
        raise ExpressionError("A mapping was expected")
    return {key: to_text(value) for key, value in values.items()}


def _run(job: JobState, frame: Frame, step: Step, record: StepRecord) -> str:
    scope = step_scope(job, frame, job.env | frame.env)
    defaults = {} if frame.composite else texts(fill(job.run_defaults, scope))
    folder = render(step.working_directory, scope) or defaults.get("working-directory", "")
    call = ScriptCall(
        script=render(step.run, scope),
        shell=render(step.shell, scope) or defaults.get("shell", ""),
        folder=job.workspace / folder,
        env=job.env | frame.env,
        frame=frame,
    )
    return run_script(job, call, record)


def _use(job: JobState, frame: Frame, step: Step, record: StepRecord) -> str:
    scope = step_scope(job, frame, job.env | frame.env)
    given = {name.lower(): text for name, text in texts(fill(dict(step.with_), scope)).items()}
    shown = [f"  {name}: {text}" for name, text in given.items()]
    job.log.group(f"Run {step.uses}", ["with:", *shown] if shown else [])
    name = step.uses.partition("@")[0].lower()
    if name in BUILT_IN:
        parse_remote(step.uses)
        return BUILT_IN_ACTIONS[name](job, given, record)
    located = locate(job, frame, step.uses)
    return _run_action(job, frame, located, given, record)


def locate(job: JobState, frame: Frame, uses: str) -> Located:
    """Find the folder of an action."""
    if uses.startswith("docker://"):
        raise UsesError("This simulator runs composite actions; docker images are not supported.")
    if uses.startswith(("./", "../")) or uses == ".":
        folder = (job.workspace / uses).resolve()
        return Located(folder=folder, root=folder)
    if uses.startswith("$/"):
        if frame.root is None:
            raise UsesError(f"'{uses}': the repository of this file is not known here")
        return Located(folder=frame.root / uses[2:], root=frame.root)
    return job.actions.fetch(parse_remote(uses), job.log.say)


def _run_action(
    job: JobState, frame: Frame, located: Located, given: dict[str, str], record: StepRecord
) -> str:
    action = load_action(located)
    if action.using != "composite":
        raise UsesError(f"This simulator runs composite actions; `using: {action.using}` is not supported.")  # fmt: skip # noqa: E501
    if frame.depth >= _DEEPEST:
        raise UsesError(f"Composite action depth exceeded max depth {_DEEPEST - 1}")
    inner = _inside(frame, located, _inputs(job, frame, action, given))
    run_steps(job, inner, action.steps)
    scope = step_scope(job, inner, job.env | inner.env)
    for name, output in action.outputs.items():
        record.outputs[name] = render(to_text((output or {}).get("value")), scope)
    late = frame.deadline is not None and time.monotonic() > frame.deadline
    return "timeout" if inner.status == "failure" and late else inner.status


def _inside(frame: Frame, located: Located, inputs: dict[str, str]) -> Frame:
    laid_over: dict[str, Value] = {
        "action_path": str(located.folder),
        "action_repository": located.repo,
        "action_ref": located.ref,
    }
    return Frame(
        inputs=inputs,
        env=dict(frame.env),
        github=frame.github | laid_over,
        deadline=frame.deadline,
        root=Path(located.root),
        depth=frame.depth + 1,
    )


def _inputs(job: JobState, frame: Frame, action: Action, given: dict[str, str]) -> dict[str, str]:
    known = {name.lower() for name in action.inputs}
    strange = [name for name in given if name not in known]
    if strange:
        wrong = ", ".join(f"'{name}'" for name in strange)
        right = ", ".join(f"'{name}'" for name in action.inputs)
        job.log.say(f"##[warning]Unexpected input(s) {wrong}, valid inputs are [{right}]")
    scope = step_scope(job, frame, job.env | frame.env)
    inputs: dict[str, str] = {}
    for name, meaning in action.inputs.items():
        default = (meaning or {}).get("default")
        written = to_text(template(default, scope) if isinstance(default, str) else default)
        inputs[name] = given.get(name.lower(), written)
    return inputs
