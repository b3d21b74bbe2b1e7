"""Run one job from registration to its report."""

from __future__ import annotations

import shutil
import threading
from contextlib import ExitStack

from simulators.actions_contexts import (
    granted,
)
from simulators.actions_expressions import Scope, fill, render
from simulators.actions_feed import Registered
from simulators.actions_git import GitError
from simulators.actions_job import Frame, JobState, Table, step_scope
from simulators.actions_ledger import JobEntry, RunEntry
from simulators.actions_orders import JobOrder, JobResult, Runner
from simulators.actions_process import Cancel, end_orphans
from simulators.actions_setup import prepare, set_up_job
from simulators.actions_steps import run_steps
from simulators.actions_syntax import ExpressionError
from simulators.actions_uses import UsesError
from simulators.actions_values import to_number, to_text, truthy


def register(runner: Runner, order: JobOrder) -> Registered:
    """Announce a job; that we are about to is on disk before."""
    entry = order.entry
    with runner.registering:  # one at a time: the first answer names the workflow run
        entry.jobs[order.name] = JobEntry()
        runner.ledger.save(entry)
        wish = entry.registration(order.name, order.workflow.name)
        wish["permissions"] = granted(order.job.permissions, fork=entry.is_fork())
        registered = runner.feed.register(wish)
        entry.jobs[order.name].job_id = registered.job_id
        entry.run_id = registered.run_id
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
        job = prepare(runner, order, registered, cancel)
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


def _carry_out(runner: Runner, order: JobOrder, job: JobState) -> JobResult:
    job.contexts["secrets"]["GITHUB_TOKEN"] = job.github["token"]
    frame = Frame(inputs=order.contexts["inputs"])
    timer = threading.Timer(60 * _minutes(order), _time_out, (job, order))
    timer.daemon = True
    timer.start()
    try:
        set_up_job(runner, order, job, frame)
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
