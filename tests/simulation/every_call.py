"""The exhaustive sweep: one successful run, and each of its calls with each fate it may have."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.batch import lived
from tests.simulation.fates import Fate, Plan
from tests.simulation.oracles import runs, violations
from tests.simulation.record import Happened
from tests.simulation.scenario import plain
from webhook_server.runs.model import Outcome, State

#: Of a read a lost answer is as good as a refusal, and a death after it as one before.
_READ = (Fate.REFUSED, Fate.CRASH_BEFORE)
_WRITE = (
    Fate.REFUSED,
    Fate.REQUEST_LOST,
    Fate.ANSWER_LOST,
    Fate.CRASH_BEFORE,
    Fate.CRASH_AFTER,
)
_AGENT = (Fate.REFUSED, Fate.ANSWER_LOST, Fate.LATE)


def calls() -> list[Happened]:
    """Return the calls of a run that nothing happened to, in their order."""
    return [one for one in lived(plain()).record.log if one.fate]


def fates_of(kind: str) -> tuple[Fate, ...]:
    """Return what may become of a call of that kind, without what cannot be told apart."""
    if kind == "db.read":
        return _READ
    if kind == "db.write":
        return _WRITE
    return _AGENT if kind.startswith("agent.") else tuple(Fate)[1:]


def plans(fates: frozenset[Fate]) -> Iterator[Plan]:
    """Return every call with each of these fates that it may have."""
    for one in calls():
        for fate in fates_of(one.kind):
            if fate in fates:
                yield Plan(nth=one.nth, fate=fate)


def failures(fates: frozenset[Fate]) -> list[str]:
    """Return what went wrong with which plan; the run succeeds whatever its one fault was."""
    found = []
    for plan in plans(fates):
        ended = lived(plain(plan))
        found += [f"{plan}: {one.invariant} {one.text}" for one in violations(ended)]
        for run in runs(ended).values():
            if (run.state, run.outcome) != (State.FINISHED, Outcome.SUCCEEDED):
                found.append(f"{plan}: {run.state} {run.outcome} {run.reason.text}")
        if ended.injected != 1:
            found.append(f"{plan}: struck {ended.injected} times")
    return found
