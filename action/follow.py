"""Follow a run to its end and take its conclusion."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from action.workflow import Console, Place
from cynthus.errors import CynthusError, Transient, UserError
from cynthus.wire import EventKind, RunAccepted, RunEvent, RunView

POLL_S = 2.0  # a person watching a job log does not see a difference below that
PAGE = 1000
PATIENCE = timedelta(minutes=10)  # a server may be away this long before the job gives up on it
CONCLUSIONS: Mapping[str, str] = {
    "succeeded": "success",
    "failed": "failure",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
    "over_budget": "action_required",
    "infrastructure": "failure",
}


class Runs(Protocol):
    """The part of the server's API that following needs."""

    def events(self, run_id: str, after: int, limit: int) -> tuple[RunEvent, ...]:
        """Return a page of the run's feed."""

    def get(self, run_id: str) -> RunView:
        """Return the run."""

    def cancel(self, run_id: str) -> None:
        """Ask for the run's end."""


@dataclass(frozen=True, kw_only=True)
class Follower:
    """What following needs."""

    client: Runs  # cynthus.client.Client, with the run's own token
    run: RunAccepted
    console: Console
    limit: timedelta
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    poll_s: float = POLL_S


@dataclass
class _Progress:
    seq: int = 0
    finished: bool = False
    state: str = ""
    percent: int = -1
    metrics: dict[str, float] = field(default_factory=dict)


def follow(follower: Follower) -> RunView:
    """Print what the run tells until it is finished, and return it.

    Raises: Refused; Transient after too long without an answer; UserError when the time is over.
    """
    progress = _Progress()
    started = heard_at = follower.clock()
    while not progress.finished:
        try:
            more = _page(follower, progress)
            heard_at = follower.clock()
        except Transient as error:
            if follower.clock() - heard_at > PATIENCE.total_seconds():
                raise
            follower.console.say(f"{error}; the run goes on, trying again")
            more = False
        if progress.finished or more:
            continue
        if follower.clock() - started > follower.limit.total_seconds():
            raise UserError(
                f"with/wait-timeout: the run has not finished within {follower.limit}; it goes on. "
                f"Look at {follower.run.url}, or write a longer `wait-timeout`."
            )
        follower.wait(follower.poll_s)
    return view(follower)


def _page(follower: Follower, progress: _Progress) -> bool:
    """Print one page of events; say whether there may be another right away."""
    events = follower.client.events(follower.run.run_id, progress.seq, PAGE)
    for event in events:
        progress.seq = max(progress.seq, event.seq)
        tell(event, progress, follower.console)
    return len(events) >= PAGE


def view(follower: Follower) -> RunView:
    """Return the run as it is now; a server that is away for a moment is asked again."""
    for pause_s in (1.0, 2.0, 4.0, 8.0):
        try:
            return follower.client.get(follower.run.run_id)
        except Transient:
            follower.wait(pause_s)
    return follower.client.get(follower.run.run_id)


def cancel(follower: Follower) -> bool:
    """Ask the server to end the run; say whether it heard."""
    try:
        follower.client.cancel(follower.run.run_id)
    except CynthusError:
        return False
    return True


def conclusion(run: RunView) -> str:
    """Return GitHub's word for how a run ended."""
    return CONCLUSIONS.get(run.outcome or "", "failure")


# ── one line per thing that happened ────────────────────────────────────────────────────────────


def tell(event: RunEvent, progress: _Progress, console: Console) -> None:
    """Print one event; what the workload wrote is quoted, so that nothing in it takes effect."""
    body: Mapping[str, Any] = event.body
    match event.kind:
        case EventKind.LOG:
            for line in str(body.get("text", "")).splitlines():
                console.quote(line)
        case EventKind.STATE:
            _tell_state(body, progress, console)
        case EventKind.PHASE | EventKind.MARK:
            console.say(_step_line(event.kind, str(body.get("name", ""))))
        case EventKind.PROGRESS:
            _tell_progress(body, progress, console)
        case EventKind.METRIC:
            step = body.get("step")
            at = "" if step is None else f" at step {step}"
            console.say(f"● {body.get('name', '')} = {body.get('value', '')}{at}")
        case EventKind.NOTICE:
            console.say(f"notice: {body.get('text', '')}")
        case EventKind.ANNOTATION:
            _tell_annotation(body, console)
        case EventKind.SAMPLE | EventKind.STAGING | EventKind.SUMMARY | EventKind.MASK:
            pass  # for the dashboard: notices say what was staged, the run's page has the summary


def _step_line(kind: EventKind, name: str) -> str:
    return f"▶ phase {name}" if kind is EventKind.PHASE else f"◦ {name.replace('_', ' ')}"


def _tell_state(body: Mapping[str, Any], progress: _Progress, console: Console) -> None:
    state, reason = str(body.get("state", "")), body.get("reason")
    progress.finished = state == "finished"
    progress.state = state
    outcome = f" ({body['outcome']})" if body.get("outcome") else ""
    console.say(f"■ {state}{outcome}{f': {reason}' if reason else ''}")


def _tell_progress(body: Mapping[str, Any], progress: _Progress, console: Console) -> None:
    """Print a line for every tenth: a training loop may report thousands."""
    value = body.get("value")
    percent = int(float(value) * 100) if isinstance(value, (int, float)) else 0
    if percent // 10 > progress.percent // 10:
        console.say(f"… {percent} %")
        progress.percent = percent


def _tell_annotation(body: Mapping[str, Any], console: Console) -> None:
    text, level = str(body.get("text", "")), str(body.get("level", "notice"))
    file, line = body.get("file"), body.get("line")
    place = None
    if isinstance(file, str) and file:
        place = Place(file=file, line=line if isinstance(line, int) else None)
    if level == "failure":
        console.error(text, place)
    elif level == "warning":
        console.warning(text, place)
    else:
        console.say(f"notice: {json.dumps(file) + ': ' if file else ''}{text}")
