"""Run the jobs of one workflow in the order of their needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from simulators.actions_contexts import dispatch_inputs, event_context
from simulators.actions_expressions import Scope, condition, fill, render
from simulators.actions_git import GitError
from simulators.actions_job import Table
from simulators.actions_jobs import conclude, fail_job, run_job, skip_job
from simulators.actions_ledger import JobEntry, RunEntry
from simulators.actions_matrix import Combination, combinations, display_name
from simulators.actions_orders import JobOrder, JobResult, Runner, tracking_id
from simulators.actions_process import Cancel, end_orphans
from simulators.actions_syntax import ExpressionError
from simulators.actions_values import Value, to_number, truthy
from simulators.actions_workflow import Job, Workflow, WorkflowError, parse_workflow

_MOST_THREADS = 32  # waiting jobs are cheap; `Runner.slots` limits those that work


@dataclass(kw_only=True)
class _Group:
    """One job of the file with all combinations of its matrix."""

    job: Job
    results: list[JobResult] = field(default_factory=list)

    def result(self) -> JobResult:
        """Join the combinations: the worst result, the last value of every output."""
        names = [one.result for one in self.results]
        for name in ("failure", "cancelled", "skipped"):
            if name in names:
                return JobResult(result=name, outputs=self._outputs())
        return JobResult(result="success", outputs=self._outputs())

    def _outputs(self) -> dict[str, str]:
        return {name: text for one in self.results for name, text in one.outputs.items() if text}


class WorkflowRun:
    """One workflow run while it goes on."""

    def __init__(self, runner: Runner, entry: RunEntry) -> None:
        self._runner = runner
        self._entry = entry
        self._cancel = Cancel(runner.stop)
        self._results: dict[str, JobResult] = {}

    def run(self) -> str:
        """Run all jobs; the answer is the workflow's own conclusion."""
        entry, ledger = self._entry, self._runner.ledger
        entry.status = "running"
        ledger.save(entry)
        try:
            workflow = parse_workflow(entry.workflow_path, self._text())
        except (WorkflowError, GitError) as fault:
            entry.result = self._invalid(f"Invalid workflow file: {fault}")
        else:
            self._run_jobs(workflow)
            entry.result = _overall([one.result for one in self._results.values()])
        entry.status = "done"
        ledger.save(entry)
        return entry.result

    def _text(self) -> str:
        return self._runner.mirror(self._entry).read(self._entry.sha, self._entry.workflow_path)

    def _invalid(self, message: str) -> str:
        nothing = parse_workflow(
            self._entry.workflow_path,
            "on: push\njobs: {file: {runs-on: none, steps: [{run: 'true'}]}}",
        )
        order = JobOrder(
            entry=self._entry,
            workflow=nothing,
            job=nothing.jobs["file"],
            name=self._entry.workflow_path,
            contexts={},
        )
        return fail_job(self._runner, order, message).result

    def _run_jobs(self, workflow: Workflow) -> None:
        waiting = dict(workflow.jobs)
        with ThreadPoolExecutor(_MOST_THREADS) as pool:
            running: dict[Future[JobResult], str] = {}
            while waiting or running:
                for key in [
                    k for k, job in waiting.items() if set(job.needs) <= set(self._results)
                ]:
                    job = waiting.pop(key)
                    running[pool.submit(self._run_group, workflow, job)] = key
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._results[running.pop(future)] = future.result()

    def _run_group(self, workflow: Workflow, job: Job) -> JobResult:
        contexts = self._contexts(workflow, job)
        try:
            if not condition(job.condition, self._job_scope(workflow, job, contexts)):
                return self._skipped(workflow, job, contexts)
            strategy = fill(job.strategy, Scope(contexts=_visible(contexts, "secrets"))) or {}
            orders = self._orders(workflow, job, contexts, strategy)
        except (ExpressionError, ValueError) as fault:
            order = self._order(workflow, job, contexts, job.name or job.key)
            return fail_job(self._runner, order, str(fault))
        return self._run_orders(job, orders, strategy)

    def _contexts(self, workflow: Workflow, job: Job) -> Table:
        secrets = {} if self._entry.is_fork() else dict(self._runner.secrets)
        needs = {
            key: {"result": self._results[key].result, "outputs": self._results[key].outputs}
            for key in job.needs
        }
        return {
            "github": event_context(self._entry, self._runner.feed.url)
            | {"workflow": workflow.name, "job": job.key},
            "needs": needs,
            "inputs": dispatch_inputs(dict(workflow.on), self._entry.payload),
            "vars": dict(self._runner.variables),
            "secrets": secrets,
            "matrix": None,
            "strategy": None,
        }

    def _job_scope(self, workflow: Workflow, job: Job, contexts: Table) -> Scope:
        before = [self._results[key].result for key in _ancestors(workflow, job)]
        functions: dict[str, Callable[..., Value]] = {
            "success": lambda: all(one == "success" for one in before),
            "failure": lambda: "failure" in before,
            "cancelled": self._cancel.is_set,
            "always": lambda: True,
        }
        shown = _visible(contexts, "secrets", "matrix", "strategy")
        return Scope(contexts=shown, functions=functions)

    def _skipped(self, workflow: Workflow, job: Job, contexts: Table) -> JobResult:
        order = self._order(workflow, job, contexts, job.name or job.key)
        return skip_job(self._runner, order)

    def _orders(
        self, workflow: Workflow, job: Job, contexts: Table, strategy: Table
    ) -> list[JobOrder]:
        found = combinations(strategy.get("matrix"))
        orders = []
        for index, combination in enumerate(found):
            own = dict(contexts)
            own["matrix"] = combination or None
            own["strategy"] = {
                "job-index": index,
                "job-total": len(found),
                "fail-fast": truthy(strategy.get("fail-fast", True)),
                "max-parallel": strategy.get("max-parallel", len(found)),
            }
            own["secrets"] = dict(contexts["secrets"])
            orders.append(self._order(workflow, job, own, _name(job, combination, own)))
        return orders

    def _order(self, workflow: Workflow, job: Job, contexts: Table, name: str) -> JobOrder:
        return JobOrder(entry=self._entry, workflow=workflow, job=job, name=name, contexts=contexts)

    def _run_orders(self, job: Job, orders: list[JobOrder], strategy: Table) -> JobResult:
        group, stop_all = _Group(job=job), Cancel(self._cancel)
        at_once = int(to_number(strategy.get("max-parallel"))) or len(orders) or 1
        fail_fast = truthy(strategy.get("fail-fast", True))

        def one(order: JobOrder) -> JobResult:
            if stop_all.is_set():
                return JobResult(result="cancelled")
            result = self._run_one(order, Cancel(stop_all))
            if result.result == "failure" and fail_fast and len(orders) > 1:
                stop_all.set()
            return result

        with ThreadPoolExecutor(min(at_once, _MOST_THREADS)) as pool:
            group.results = list(pool.map(one, orders))
        return group.result()

    def _run_one(self, order: JobOrder, cancel: Cancel) -> JobResult:
        if order.job.unsupported:
            return fail_job(self._runner, order, f"jobs.{order.job.key}.{order.job.unsupported}: this simulator does not support it; it runs steps on this machine.")  # fmt: skip # noqa: E501
        return run_job(self._runner, order, cancel)


def _visible(contexts: Table, *hidden: str) -> Table:
    return {name: value for name, value in contexts.items() if name not in hidden}


def _ancestors(workflow: Workflow, job: Job) -> set[str]:
    found = set(job.needs)
    for key in job.needs:
        found |= _ancestors(workflow, workflow.jobs[key])
    return found


def _name(job: Job, combination: Combination, contexts: Table) -> str:
    if "${{" in job.name:
        return render(job.name, Scope(contexts=_visible(contexts, "secrets")))
    return display_name(job.name or job.key, combination)


def _overall(results: list[str]) -> str:
    return next((name for name in ("failure", "cancelled") if name in results), "success")


def end_interrupted(runner: Runner, entry: RunEntry) -> None:
    """Close a workflow run that a crash of this program cut short."""
    for name, job in entry.jobs.items():
        end_orphans(tracking_id(runner.ledger, entry, name))
        if not job.reported:
            _report_interrupted(runner, entry, name, job)
    entry.status, entry.result = "done", "cancelled"
    runner.ledger.save(entry)


def _report_interrupted(runner: Runner, entry: RunEntry, name: str, job: JobEntry) -> None:
    if not job.job_id:
        # The answer to the registration was lost; the same `run_key` names the same job.
        job.job_id = runner.feed.register(entry.registration(name, entry.workflow_path)).job_id
    log = runner.ledger.log_path(entry, name)
    lost = {
        "conclusion": "cancelled",
        "annotations": [_LOST],
        "summary": "",
        "log": log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
    }
    conclude(runner, entry, name, job.report or lost)


_LOST = {
    "path": ".github",
    "start_line": 1,
    "end_line": 1,
    "annotation_level": "failure",
    "title": "",
    "message": "The runner has received a shutdown signal. This can happen when the runner "
    "service is stopped, or a manually started runner is canceled.",
}
