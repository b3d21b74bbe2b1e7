"""Make everything that a job needs before its first step."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

from simulators.actions_builtin import lend_python, machine_has_python
from simulators.actions_commands import Masks
from simulators.actions_contexts import (
    event_context,
    granted,
    job_context,
    place_context,
)
from simulators.actions_environment import base_environment, runner_context
from simulators.actions_expressions import fill
from simulators.actions_feed import Registered
from simulators.actions_job import Frame, JobState, step_scope
from simulators.actions_ledger import RunEntry
from simulators.actions_log import JobLog
from simulators.actions_orders import JobOrder, Runner, tracking_id
from simulators.actions_process import Cancel
from simulators.actions_steps import locate, texts
from simulators.actions_uses import BUILT_IN, ActionStore, load_action
from simulators.actions_values import Value, to_text
from simulators.actions_workflow import Step


def prepare(runner: Runner, order: JobOrder, registered: Registered, cancel: Cancel) -> JobState:
    """Give a registered job its folders, log, masks and environment."""
    entry = order.entry
    work = runner.ledger.work_path(entry, order.name)
    shutil.rmtree(work, ignore_errors=True)
    masks = Masks()
    for secret in (registered.github_token, registered.id_token_request_token):
        masks.add(secret)
    for secret in order.contexts["secrets"].values():
        masks.add(secret)
    server = runner.feed.url
    github = event_context(entry, server) | job_context(entry, order.workflow.name, registered)
    runner_ = runner_context(work, f"cynthus-sim-{platform.node()}")
    job = JobState(
        work=work,
        github=github | place_context(work, entry, order.job.key),
        runner=runner_,
        contexts=order.contexts | {"job": {"check_run_id": registered.check_run_id}},
        env={},
        base_env=base_environment(work / "_home") | dict(runner.environment),
        oidc=_oidc(runner, order, registered),
        run_defaults=dict(order.job.run_defaults),
        masks=masks,
        log=JobLog(
            runner.ledger.log_path(entry, order.name),
            masks,
            lambda line: runner.say(f"[{order.name}] {line}"),
        ),
        cancel=cancel,
        actions=ActionStore(
            server, runner.folders, runner.ledger.state / "actions", work / "_actions"
        ),
        tracking_id=tracking_id(runner.ledger, entry, order.name),
    )
    _lay_out(job, entry)
    return job


def _oidc(runner: Runner, order: JobOrder, registered: Registered) -> dict[str, str]:
    rights = granted(order.job.permissions, fork=order.entry.is_fork()) or {}
    if rights.get("id-token") != "write" or runner.faults.no_id_token:
        return {}
    return {
        "ACTIONS_ID_TOKEN_REQUEST_URL": registered.id_token_request_url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": registered.id_token_request_token,
    }


def _lay_out(job: JobState, entry: RunEntry) -> None:
    for folder in (job.workspace, job.temp, job.work / "_tool", job.work / "_home"):
        folder.mkdir(parents=True, exist_ok=True)
    if not machine_has_python(job.base_env["PATH"]):
        job.paths.append(str(lend_python(job.work)))
    event = Path(to_text(job.github["event_path"]))
    event.parent.mkdir(parents=True)
    event.write_text(json.dumps(entry.payload, indent=2), encoding="utf-8")


def set_up_job(runner: Runner, order: JobOrder, job: JobState, frame: Frame) -> None:
    """Do the step `Set up job`: say what runs where, bring the actions, evaluate `env`."""
    say = job.log.say
    say("Cynthus' Actions-runner simulator: steps run on this machine, in a fresh workspace")
    say(f"Runner name: '{job.runner['name']}'")
    job.log.group("Operating System", [platform.platform()])
    job.log.group("GITHUB_TOKEN Permissions", [to_text(line) for line in _rights(order)])
    if order.workflow.concurrency or order.job.concurrency:
        say("`concurrency` is read and has no effect here: runs do not wait for each other")
    say(f"Prepare workflow directory {job.workspace}")
    say("Prepare all required actions")
    if any(step.uses.startswith("$/") for step in order.job.steps):
        frame.root = job.work / "_actions" / "_self"
        runner.mirror(order.entry).export(order.entry.sha, frame.root)
    for step in order.job.steps:
        _prefetch(job, step)
    _set_env(order, job, frame)
    say(f"Complete job name: {order.name}")


def _rights(order: JobOrder) -> list[Value]:
    permissions = order.job.permissions
    if isinstance(permissions, dict):
        return [f"{name}: {level}" for name, level in permissions.items()] or ["none"]
    return [permissions or "default"]


def _prefetch(job: JobState, step: Step) -> None:
    """Bring remote actions, and what they use in turn, before the first step runs."""
    name = step.uses.partition("@")[0].lower()
    if not step.uses or step.uses.startswith((".", "$", "docker:")) or name in BUILT_IN:
        return
    action = load_action(locate(job, Frame(), step.uses))
    for inner in action.steps:
        _prefetch(job, inner)


def _set_env(order: JobOrder, job: JobState, frame: Frame) -> None:
    for values in (order.workflow.env, order.job.env):
        job.env |= texts(fill(values, step_scope(job, frame, dict(job.env))))
