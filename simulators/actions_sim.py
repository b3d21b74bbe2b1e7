"""The Actions-runner simulator: take events from the GitHub simulator and run their workflows.

    python -m simulators actions --github http://127.0.0.1:PORT --state DIR [--once]

What is real: git, the shells, the environment, workflow commands, expressions, OIDC requests, the
order of jobs. What stands in: `actions/checkout` and `actions/setup-python` are equivalents of our
own (the log says so), every `runs-on` is this machine, and jobs are not isolated from it: run only
workflows you would run yourself. Docker and Node actions, containers, services and reusable
workflows are refused plainly. `concurrency` is read and has no effect.

A job starts with a clean environment: PATH, HOME (fresh), LANG, GitHub's own variables, and what
this machine needs to reach a network at all (PIP_*, UV_*, certificates, proxies, DOCKER_HOST).
State lies in --state and survives a kill: an event is planned once, and a job that was running when
the simulator died is reported `cancelled`, its processes ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from simulators.actions_control import serve_control
from simulators.actions_feed import Event, Feed, FeedError
from simulators.actions_git import GitError
from simulators.actions_ledger import Ledger, RunEntry
from simulators.actions_orders import Runner
from simulators.actions_planner import plan
from simulators.actions_process import Cancel
from simulators.actions_runs import WorkflowRun, end_interrupted

_PAUSE_S = 0.5  # between two tries to reach GitHub
_GIT_TRIES = 5
_STOP_S = 20.0  # ten seconds for a step to end, and as long to report it


def main(argv: Sequence[str]) -> int:
    """Run the simulator; with --once, exit 0 when every job succeeded and 1 otherwise."""
    options = _options(argv)
    runner = _runner(options)
    _stop_on_signals(runner.stop)
    if options.port is not None:
        runner.say(f"actions simulator: {serve_control(runner, options.port)}")
    loop = _Loop(runner)
    if options.once:
        try:
            return loop.once()
        except (OSError, FeedError) as fault:
            runner.say(f"--github: should be a GitHub simulator that answers, found: {fault}")
            return 3
    threading.Thread(target=loop.forever, daemon=True, name="feed").start()
    while not runner.stop.is_set():
        runner.stop.wait(3600)
    loop.finish(_STOP_S)
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m simulators actions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--github", required=True, metavar="URL", help="address of the GitHub simulator")
    add("--state", required=True, type=Path, metavar="DIR", help="folder for state, work and logs")
    add("--once", action="store_true", help="handle what is pending, then exit")
    add("--port", type=int, metavar="N", help="serve status and fault switches on loopback")
    add("--jobs", type=int, default=4, metavar="N", help="jobs at a time (default 4)")
    add("--keep-work", action="store_true", help="keep the workspaces of finished jobs")
    add("--action", action="append", default=[], metavar="OWNER/REPO=DIR",
        help="take this action from a folder")  # fmt: skip
    add("--var", action="append", default=[], metavar="NAME=VALUE", help="a value of `vars`")
    add("--secret", action="append", default=[], metavar="NAME[=VALUE]",
        help="a value of `secrets`; without VALUE it is read from the environment")  # fmt: skip
    add("--token-env", default="", metavar="NAME",
        help="environment variable with a token that reads private repositories")  # fmt: skip
    add("--env", action="append", default=[], metavar="NAME=VALUE",
        help="a variable of every job, as in a self-hosted runner's `.env` file")  # fmt: skip
    return parser.parse_args(argv)


def _runner(options: argparse.Namespace) -> Runner:
    print_lock = threading.Lock()

    def say(line: str) -> None:
        with print_lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    return Runner(
        feed=Feed(options.github),
        ledger=Ledger(options.state.resolve()),
        folders={name: Path(path).resolve() for name, path in _pairs(options.action)},
        variables=dict(_pairs(options.var)),
        secrets=dict(_pairs(options.secret)),
        environment=dict(_pairs(options.env)),
        slots=threading.Semaphore(max(1, options.jobs)),
        stop=Cancel(),
        say=say,
        keep_work=options.keep_work,
        token=os.environ.get(options.token_env, ""),
    )


def _pairs(written: Sequence[str]) -> list[tuple[str, str]]:
    pairs = (text.partition("=") for text in written)
    return [(name, value if sep else os.environ.get(name, "")) for name, sep, value in pairs]


def _stop_on_signals(stop: Cancel) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())


class _Loop:
    """Take events, plan them, start their workflow runs."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._threads: list[threading.Thread] = []
        self._entries: list[RunEntry] = []

    def once(self) -> int:
        """Handle what is pending; 0 when all of it succeeded."""
        self._resume()
        while not self._runner.stop.is_set() and (events := self._events(wait=False)):
            self._take(events)
        self.finish(None)
        return 0 if all(entry.result == "success" for entry in self._entries) else 1

    def forever(self) -> None:
        """Handle events as they come, until the program ends."""
        self._resume()
        while not self._runner.stop.is_set():
            if self._runner.faults.paused:
                self._runner.stop.wait(_PAUSE_S)
            else:
                self._take(self._events(wait=True))

    def finish(self, seconds: float | None) -> None:
        """Wait for the workflow runs that go on."""
        for thread in self._threads:
            thread.join(seconds)

    def _resume(self) -> None:
        for entry in self._runner.ledger.entries():
            if entry.status == "running":
                self._runner.say(f"{entry.key}: was cut short, reported as cancelled")
                end_interrupted(self._runner, entry)
                self._entries.append(entry)
            elif entry.status == "planned":
                self._start(entry)

    def _events(self, *, wait: bool) -> list[Event]:
        try:
            return self._runner.feed.events(self._runner.ledger.cursor(), wait=wait)
        except (OSError, FeedError) as fault:
            if not wait:
                raise
            self._runner.say(f"the event feed does not answer, trying again: {fault}")
            self._runner.stop.wait(_PAUSE_S)
            return []

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            new = [entry for entry in self._planned(event) if self._runner.ledger.plan(entry)]
            self._runner.ledger.advance(event.seq)
            for entry in new:
                self._start(entry)

    def _planned(self, event: Event) -> list[RunEntry]:
        for left in reversed(range(_GIT_TRIES)):
            try:
                return self._plan(event)
            except (GitError, KeyError, TypeError) as fault:
                self._runner.say(f"event {event.seq} ({event.event}): {fault!r}, {left} tries left")
                if left:
                    self._runner.stop.wait(_PAUSE_S)
        return []

    def _plan(self, event: Event) -> list[RunEntry]:
        return plan(self._runner.feed, self._runner.ledger, event, self._runner.token)

    def _start(self, entry: RunEntry) -> None:
        self._runner.say(f"{entry.key}: {entry.event} starts {entry.workflow_path}")
        self._entries.append(entry)
        thread = threading.Thread(target=self._run, args=(entry,), name=entry.key, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, entry: RunEntry) -> None:
        try:
            result = WorkflowRun(self._runner, entry).run()
        except FeedError as fault:
            result = f"not reported, a restart will: {fault}"
        except Exception:  # noqa: BLE001 - the outermost guard: the other runs go on
            self._runner.say(traceback.format_exc())
            end_interrupted(self._runner, entry)
            result = "a fault of this simulator, reported as cancelled"
        self._runner.say(f"{entry.key}: {result}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
