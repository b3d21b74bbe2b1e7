"""Judge how a command ended: which outcome, why, and whether another attempt may help."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire import Exit
from webhook_server.runs.lending import Fate
from webhook_server.runs.limits import deadline, duration_text
from webhook_server.runs.model import Attempt, Cause, Outcome, Reason, Run, Verdict

# The agent's own deadline was counted from its enrolment's answer: allow for a slow clock.
_DEADLINE_SLACK = timedelta(seconds=30)

_STOPPED = {
    Cause.CANCELLED: Outcome.CANCELLED,
    Cause.SUPERSEDED: Outcome.CANCELLED,
    Cause.MAX_DURATION: Outcome.TIMED_OUT,
    Cause.MAX_COST: Outcome.OVER_BUDGET,
    Cause.BUDGET: Outcome.OVER_BUDGET,
}


def stopped(cause: Cause, text: str) -> Verdict:
    """Judge an attempt that we ended."""
    return Verdict(outcome=_STOPPED[cause], reason=Reason(cause=cause, text=text))


def lost(cause: Cause, text: str, last_resort: Outcome = Outcome.INFRASTRUCTURE) -> Verdict:
    """Judge an attempt whose end is not the user's fault."""
    return Verdict(outcome=None, reason=Reason(cause=cause, text=text), last_resort=last_resort)


def failed(cause: Cause, text: str) -> Verdict:
    """Judge an attempt that another one would not mend."""
    return Verdict(outcome=Outcome.FAILED, reason=Reason(cause=cause, text=text))


#: What became of an instance that executes nothing any more.
_FATES = {
    Fate.PREEMPTED: (Cause.PREEMPTED, "the instance was taken back by its owner"),
    Fate.HOST_ERROR: (Cause.HOST_ERROR, "the machine under the instance failed"),
    Fate.STOPPED: (Cause.STOPPED, "the instance was stopped"),
    Fate.SUSPENDED: (Cause.SUSPENDED, "the instance was suspended"),
}


def taken_back() -> Verdict:
    """Judge an attempt whose instance's owner wants it for somebody else."""
    return lost(*_FATES[Fate.PREEMPTED])


def by_fate(fate: Fate | None, detail: str, otherwise: str) -> Verdict:
    """Judge an attempt by what its provider says became of the instance."""
    cause, text = _FATES.get(fate, (Cause.GONE, otherwise)) if fate else (Cause.GONE, otherwise)
    return lost(cause, f"{text}: {detail}" if detail else text)


def of_rank(rank: int, nodes: int, why: Verdict) -> Verdict:
    """Say which instance of a gang a verdict is about."""
    if nodes == 1:
        return why
    return replace(why, reason=replace(why.reason, text=f"rank {rank}: {why.reason.text}"))


def succeeded(exit_: Exit | None) -> bool:
    """Say whether the command ended well, and by itself."""
    return exit_ is not None and exit_.code == 0 and not exit_.stopped


def verdict(run: Run, spec: Spec, attempt: Attempt, *, preempted: bool, now: datetime) -> Verdict:
    """Judge by the exit that the agent reported."""
    exit_ = attempt.exit
    if exit_ is None:
        return attempt.ending or lost(Cause.INSTANCE, "the agent ended without saying how")
    if succeeded(exit_):
        reason = Reason(cause=Cause.EXIT, text="the command succeeded")
        return Verdict(outcome=Outcome.SUCCEEDED, reason=reason)
    if exit_.stopped:
        return _after_stop(run, spec, attempt, preempted=preempted, now=now)
    if preempted:
        return taken_back()
    if exit_.infrastructure:
        return lost(Cause.INSTANCE, exit_.error or "the instance has a fault")
    if exit_.code in spec.retry.on_exit:
        text = f"the command exited with code {exit_.code}, which retry/on_exit names"
        return lost(Cause.EXIT, text, Outcome.FAILED)
    return failed(*_fault(exit_, spec))


def _after_stop(
    run: Run, spec: Spec, attempt: Attempt, *, preempted: bool, now: datetime
) -> Verdict:
    if attempt.ending is not None:
        return attempt.ending
    if preempted:
        return taken_back()
    if attempt.exit is not None and attempt.exit.infrastructure:
        return lost(Cause.INSTANCE, attempt.exit.error or "the instance was shut down")
    at = deadline(run, spec)
    if at is not None and now >= at - _DEADLINE_SLACK:
        return stopped(Cause.MAX_DURATION, duration_text(run, spec))
    return lost(Cause.SILENT, "the agent stopped the command: it could not reach the server")


def _fault(exit_: Exit, spec: Spec) -> tuple[Cause, str]:
    if exit_.out_of_memory:
        return Cause.OUT_OF_MEMORY, f"the command ran out of memory ({_memory(spec)})"
    if exit_.signal is not None:
        return Cause.EXIT, f"the command was killed by {_signal_name(exit_.signal)}"
    if exit_.code is not None:
        return Cause.EXIT, f"the command exited with code {exit_.code}"
    return Cause.EXIT, f"the command did not start: {exit_.error or 'the agent does not say why'}"


def _memory(spec: Spec) -> str:
    size = spec.resources.memory_bytes
    if size is None:
        return "resources/memory is not set: it had what the instance has"
    return f"resources/memory is {size / 10**9:g} GB"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


def spec_fault_text(run: Run) -> str:
    """Say what is wrong with the spec file in one line; the annotations say the rest."""
    if not run.spec_faults:
        return f"{run.key.spec_path} cannot be read"
    first = run.spec_faults[0]
    rest = len(run.spec_faults) - 1
    more = f" (and {rest} more)" if rest else ""
    return f"{run.key.spec_path}:{first.line}:{first.column}: {first.text}{more}"
