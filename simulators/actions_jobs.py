"""Run one job from registration to its report."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from simulators.actions_commands import Masks
from simulators.actions_contexts import (
    event_context,
    is_fork,
    job_context,
    may_ask_id_token,
    place_context,
)
from simulators.actions_environment import base_environment, runner_context
from simulators.actions_expressions import ExpressionError, Scope, fill, render
from simulators.actions_feed import Feed, Registered
from simulators.actions_git import GitError, Mirror
from simulators.actions_job import Frame, JobState, Table, step_scope
from simulators.actions_ledger import JobEntry, Ledger, RunEntry
from simulators.actions_log import JobLog
from simulators.actions_process import Cancel, end_orphans
from simulators.actions_steps import locate, run_steps, texts
from simulators.actions_uses import BUILT_IN, ActionStore, UsesError, load_action
from simulators.actions_values import Value, to_number, to_text, truthy
from simulators.actions_workflow import Job, Step, Workflow


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
    slots: threading.Semaphore
    stop: Cancel
    say: Callable[[str], None]
    keep_work: bool = False
    faults: Faults = field(default_factory=Faults)
    live: dict[int, Cancel] = field(default_factory=dict)

    def mirror(self, entry: RunEntry) -> Mirror:
        """Open the bare copy of the repository of a run."""
        name = f"{entry.owner}/{entry.repo}"
        return Mirror(self.ledger.state / "mirrors" / name, f"{self.feed.url}/{name}.git")


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


def register(runner: Runner, order: JobOrder) -> Registered:
    """Announce a job; that we are about to is on disk before."""
    entry = order.entry
    entry.jobs[order.name] = JobEntry()
    runner.ledger.save(entry)
    registered = runner.feed.register(entry.registration(order.name, order.workflow.name))
    entry.jobs[order.name].job_id = registered.job_id
    runner.ledger.save(entry)
    return registered


def conclude(runner: Runner, entry: RunEntry, name: str, report: Table) -> None:
    """Report the end of a job; what is reported is on disk before, so that it never changes."""
    job = entry.jobs[name]
    job.conclusion = str(report["conclusion"])
    job.report = {"status": "completed", **report}
    runner.ledger.save(entry)
    runner.feed.report(job.job_id, job.report)
    job.reported = True
    runner.ledger.save(entry)


def skip_job(runner: Runner, order: JobOrder) -> JobResult:
    """Report a job whose condition was false."""
    register(runner, order)
    conclude(runner, order.entry, order.name, _report("skipped"))
    return JobResult(result="skipped")


def fail_job(runner: Runner, order: JobOrder, message: str) -> JobResult:
    """Report a job that could not even begin."""
    register(runner, order)
    note = {"path": order.entry.workflow_path, "start_line": 1, "end_line": 1, "title": ""}
    note |= {"annotation_level": "failure", "message": message}
    runner.say(f"[{order.name}] {message}")
    conclude(runner, order.entry, order.name, _report("failure") | {"annotations": [note]})
    return JobResult(result="failure")


def _report(conclusion: str) -> Table:
    return {"conclusion": conclusion, "annotations": [], "summary": "", "log": ""}


def run_job(runner: Runner, order: JobOrder, cancel: Cancel) -> JobResult:
    """Run one job on this machine, when a slot is free."""
    registered = register(runner, order)
    with runner.slots, ExitStack() as cleaning:
        runner.live[registered.job_id] = cancel
        cleaning.callback(runner.live.pop, registered.job_id)
        runner.feed.report(registered.job_id, {"status": "in_progress"})
        job = _prepare(runner, order, registered, cancel)
        cleaning.callback(job.log.close)
        result = _carry_out(runner, order, job)
        report = {
            "conclusion": result.result,
            "annotations": [one.json() for one in job.annotations],
            "summary": "\n\n".join(job.summaries),
            "log": job.log.text(),
        }
        conclude(runner, order.entry, order.name, report)
        if not runner.keep_work:
            shutil.rmtree(job.work, ignore_errors=True)
    forgiven = result.result == "failure" and _forgiven(order)
    return JobResult(result="success", outputs=result.outputs) if forgiven else result


def _forgiven(order: JobOrder) -> bool:
    return truthy(fill(order.job.continue_on_error, Scope(contexts=order.contexts)))


def _prepare(runner: Runner, order: JobOrder, registered: Registered, cancel: Cancel) -> JobState:
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
        base_env=base_environment(work / "_home"),
        oidc=_oidc(runner, order, registered),
        run_defaults=dict(order.job.run_defaults),
        masks=masks,
        log=JobLog(
            runner.ledger.log_path(entry, order.name),
            masks,
            lambda line: runner.say(f"[{order.name}] {line}"),
        ),
        cancel=cancel,
        actions=ActionStore(server, runner.folders, work / "_actions"),
        tracking_id=tracking_id(runner.ledger, entry, order.name),
    )
    _lay_out(job, entry)
    return job


def _oidc(runner: Runner, order: JobOrder, registered: Registered) -> dict[str, str]:
    allowed = may_ask_id_token(order.job.permissions, fork=is_fork(order.entry))
    if not allowed or runner.faults.no_id_token:
        return {}
    return {
        "ACTIONS_ID_TOKEN_REQUEST_URL": registered.id_token_request_url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": registered.id_token_request_token,
    }


def _lay_out(job: JobState, entry: RunEntry) -> None:
    for folder in (job.workspace, job.temp, job.work / "_tool", job.work / "_home"):
        folder.mkdir(parents=True, exist_ok=True)
    event = Path(to_text(job.github["event_path"]))
    event.parent.mkdir(parents=True)
    event.write_text(json.dumps(entry.payload, indent=2), encoding="utf-8")


def _carry_out(runner: Runner, order: JobOrder, job: JobState) -> JobResult:
    job.contexts["secrets"]["GITHUB_TOKEN"] = job.github["token"]
    frame = Frame(inputs=order.contexts["inputs"])
    timer = threading.Timer(60 * _minutes(order), _time_out, (job, order))
    timer.daemon = True
    timer.start()
    try:
        _set_up(runner, order, job, frame)
        run_steps(job, frame, order.job.steps)
        outputs = _outputs(order, job, frame)
    except (ExpressionError, UsesError, GitError) as fault:
        job.error(str(fault))
        frame.status, outputs = "failure", {}
    finally:
        timer.cancel()
    _clean_up(job)
    result = "cancelled" if job.cancel.is_set() else frame.status
    job.log.say(f"Job '{order.name}' completed: {result}")
    return JobResult(result=result, outputs=outputs)


def _minutes(order: JobOrder) -> float:
    return to_number(fill(order.job.timeout_minutes, Scope(contexts=order.contexts)))


def _time_out(job: JobState, order: JobOrder) -> None:
    job.error(f"The job has exceeded the maximum execution time of {to_text(_minutes(order))}m0s")
    job.cancel.set()


def _set_up(runner: Runner, order: JobOrder, job: JobState, frame: Frame) -> None:
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


def _outputs(order: JobOrder, job: JobState, frame: Frame) -> dict[str, str]:
    scope = step_scope(job, frame, job.env)
    outputs: dict[str, str] = {}
    for name, written in order.job.outputs.items():
        value = render(to_text(written), scope)
        if job.masks.hide(value) != value:
            job.log.say(f"##[warning]Skip output '{name}' since it may contain secret.")
        else:
            outputs[name] = value
    return outputs


def _clean_up(job: JobState) -> None:
    for undo in job.after:
        undo()
    killed = end_orphans(job.tracking_id)
    if killed:
        job.log.say(f"Cleaning up orphan processes: {killed} terminated")
