"""Explain why a run waits, or how it came to its end: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.money import of_limit, usd
from cynthus.wire import Exit
from webhook_server.runs.attempts import lost_time, span
from webhook_server.runs.hostile import code, inline
from webhook_server.runs.model import Attempt, Cause, Outcome, Run, State

_STEPS = 8  # the newest: what went before is on the run's page
_ATTEMPTS = 10
_SIGNAL_BASE = 128  # a shell's way to tell a signal: https://tldp.org/LDP/abs/html/exitcodes.html
_KILLED, _ABORTED, _BUS, _SEGMENT, _TERMINATED = 9, 6, 7, 11, 15
_HINTS = {
    1: "An error of the program itself: its last lines say which.",
    2: "The program did not take its arguments, or the shell could not read the command.",
    126: "The command was found and may not be executed: `chmod +x` it, or call its interpreter.",
    127: "The command was not found: is it in the image, and on PATH?",
    _SIGNAL_BASE + _ABORTED: "It aborted itself (SIGABRT): an assertion of a library, or memory.",
    _SIGNAL_BASE + _BUS: "A bus error (SIGBUS): mostly too little shared memory for data loaders.",
    _SIGNAL_BASE + _KILLED: (
        "Killed from outside (SIGKILL): mostly for want of memory. Ask for more"
        " `resources/memory`, or make the batch smaller."
    ),
    _SIGNAL_BASE + _SEGMENT: "A crash in native code (SIGSEGV): mostly a library for another CUDA.",
    _SIGNAL_BASE + _TERMINATED: "It was asked to end (SIGTERM).",
}
_MEMORY = (
    "It needed more memory than there is: ask for more `resources/memory`, or make the batch"
    " smaller."
)
_REMEDIES = {
    Cause.SPEC: "Correct the file; every fault is an annotation on its line.",
    Cause.BUILD: "The workflow run that makes the image says more.",
    Cause.OUT_OF_MEMORY: _MEMORY,
    Cause.MAX_DURATION: "Raise `resources/max_duration`, or ask to extend the next run in time.",
    Cause.MAX_COST: "Raise `resources/max_cost`, or name a cheaper machine.",
    Cause.BUDGET: "Wait for the next month, or have the budget raised.",
    Cause.NO_CAPACITY: "Allow other `resources/places` or other kinds of `resources/gpu`.",
    Cause.REFUSED: "The provider's own settings or quotas have to change.",
    Cause.PREEMPTED: "A Spot instance can be taken back: a retry with on-demand ones avoids it.",
    Cause.POLICY: "Change the spec, or have the repository's policy changed on the default branch.",
    Cause.DATA: "Change `data` of the spec, or open what it names to this repository, and run it"
    " again.",
    Cause.GATE: "The metric missed what `gate` of the spec demands of it.",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One transition of a run."""

    at: datetime
    state: str
    reason: str


def explanation(run: Run, steps: Sequence[Step], now: datetime) -> str:
    """Return the explanation as Markdown, strangers' words made harmless; `steps` oldest first."""
    parts = [
        _now(run, now),
        *_wait(run, now),
        *_end(run),
        _attempts(run),
        _course(steps),
    ]
    return "\n\n".join(part for part in parts if part)


def _now(run: Run, now: datetime) -> str:
    name = f"{run.spec.name if run.spec else run.key.spec_path} #{run.number}"
    since = span(now - run.state_since)
    if run.state is State.FINISHED:
        ended = (run.outcome or Outcome.FAILED).value.replace("_", " ")
        return f"{code(name)} ended {since} ago, **{ended}**: {inline(run.reason.text)}"
    return f"{code(name)} is **{run.state.value}** since {since}: {inline(run.reason.text)}"


# ── waits ───────────────────────────────────────────────────────────────────────────────────────


def _wait(run: Run, now: datetime) -> Iterator[str]:
    if run.hold is not None:
        reasons = "; ".join(inline(reason, 300) for reason in run.hold.reasons)
        yield (
            f"It waits for a person: {reasons}. Whoever is {inline(run.hold.who, 200)} may approve"
            f" it, for {usd(run.hold.cap_usd)} at most."
        )
    elif run.state is State.QUEUED and run.not_before is not None and run.not_before > now:
        yield (
            f"All that would fit has just refused; it is asked again in"
            f" {span(run.not_before - now)} ({run.not_before:%H:%M:%S} UTC)."
        )
    elif run.state is State.BUILDING:
        told = "" if run.workflow_run_url else " No workflow run has told of one yet."
        yield f"Nothing is ordered before its image is there.{told}"


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


def _end(run: Run) -> Iterator[str]:
    if run.outcome is None or run.outcome is Outcome.SUCCEEDED:
        return
    last = run.attempt
    if last is not None and last.exit is not None and run.reason.cause in _OF_THE_COMMAND:
        yield exit_hint(last.exit)
    elif run.reason.cause in _REMEDIES:
        yield _REMEDIES[run.reason.cause]
    limit = run.spec.resources.max_cost_usd if run.spec else None
    if run.reason.cause in _OF_MONEY:
        yield f"It had cost {of_limit(run.cost_usd, limit)}."


_OF_THE_COMMAND = frozenset({Cause.EXIT, Cause.OUT_OF_MEMORY})
_OF_MONEY = frozenset({Cause.MAX_COST, Cause.BUDGET})


def exit_hint(found: Exit) -> str:
    """Say what an exit usually means; empty: nothing is known of it.

    https://docs.docker.com/engine/reference/run/#exit-status
    """
    if found.out_of_memory:
        return _MEMORY
    if found.error:
        return f"The command never started: {inline(found.error, 300)}"
    if found.signal is not None:
        return _HINTS.get(_SIGNAL_BASE + found.signal, f"It ended by signal {found.signal}.")
    return _HINTS.get(found.code or 0, "")


# ── its course ──────────────────────────────────────────────────────────────────────────────────


def _attempts(run: Run) -> str:
    lines = [_attempt(attempt) for attempt in run.attempts if attempt.reason is not None]
    return "\n".join(lines[-_ATTEMPTS:])


def _attempt(attempt: Attempt) -> str:
    lost = lost_time(attempt)
    after = f" after {span(lost)} of work" if lost > timedelta(0) else ""
    why = inline(attempt.reason.text, 300) if attempt.reason else ""
    return (
        f"- attempt {attempt.number} on {inline(attempt.offer.machine, 60)} in"
        f" {inline(attempt.offer.place, 60)} ended{after}: {why}"
    )


def _course(steps: Sequence[Step]) -> str:
    lines = [
        f"- {step.at:%Y-%m-%d %H:%M:%S} {inline(step.state, 40)}: {inline(step.reason, 200)}"
        for step in steps[-_STEPS:]
    ]
    if not lines:
        return ""
    return "\n".join(["<details><summary>Its course (UTC)</summary>", "", *lines, "", "</details>"])
